transform {
  use "fanout" {
    workspace_config = "workspaceConfig.json"

    transformations {
      url                  = "https://api.rudderstack.com"
      secret               = env("WORKSPACE_TOKEN", "")
      cache_directory      = "transformations"
      timeout_millis       = 2000
      patience_millis      = 500
      memory_limit_mb      = 64
      allow_networks       = ["10.0.0.0/8"]
      geolocation_database = "places.mmdb"
    }

    enrichment {
      geolocation_database = "places.mmdb"
      user_agent           = true
      bots                 = "flag"
    }

    tracking_plans {
      url             = "https://api.rudderstack.com"
      secret          = env("WORKSPACE_TOKEN", "")
      cache_directory = "plans"
      patience_millis = 500
    }
  }

  # Code and plans in files.
  use "fanout" {
    workspace_config = "workspaceConfig.json"

    transformations {
      directory = "transformations"
    }

    tracking_plans {
      directory = "plans"
    }
  }

  # A rudder-transformer that is there runs the code.
  use "fanout" {
    workspace_config = "workspaceConfig.json"

    transformations {
      transformer_url = "http://127.0.0.1:9090"
    }
  }

  use "fanout" {
    workspace = "acme"
  }
}

# The same by the name of a workspace block, which says where the configuration comes from.
workspace "acme" {
  config = "workspaceConfig.json"
}
