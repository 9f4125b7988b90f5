transform {
  use "webhook" {
    workspace_config         = "workspaceConfig.json"
    allow_events_without_ids = true
    webhook "Shopify" {
      script_path    = "shopify.js"
      version        = "v1"
      forward_get    = true
      timeout_millis = 2000
    }
  }

  use "webhook" {
    workspace = "acme"
    webhook "Shopify" {
      script_path = "shopify.js"
    }
  }
}

# The same by the name of a workspace block, which says where the configuration comes from.
workspace "acme" {
  config = "workspaceConfig.json"
}
