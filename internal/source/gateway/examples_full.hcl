source {
  use "gateway" {
    workspace_config = "workspaceConfig.json"
    address          = "0.0.0.0:8443"
    host_names       = ["gateway.example.com"]

    allowed_origins        = ["https://shop.example.com", "https://*.shop.example.com"]
    internal_endpoints     = true
    require_destination_id = true

    webhook "Shopify" {
      script_path    = "shopify.js"
      version        = "v1"
      forward_get    = true
      timeout_millis = 2000
    }

    max_body_bytes         = 2097152
    max_request_events     = 5000
    max_batch_messages     = 2000
    max_batch_bytes        = 4194304
    max_in_flight_requests = 5000
    max_in_flight_bytes    = 134217728
    max_connections        = 5000
    max_header_bytes       = 65536

    response_timeout_millis = 20000
    read_timeout_millis     = 30000
    idle_timeout_millis     = 60000
    retry_after_seconds     = 5

    rate_limit_events          = 100000
    rate_limit_window_seconds  = 30
    rate_limit_burst_events    = 20000
    internal_rate_limit_events = 50000
    workspace_rate_limit "acme" {
      events         = 5000
      window_seconds = 10
      burst_events   = 1000
    }
    allow_events_without_ids = true

    suppression {
      path               = "suppressed"
      start_wait_seconds = 30
      control_plane {
        url                = "https://api.rudderstack.com"
        token              = env.WORKSPACE_TOKEN
        workspace          = "acme"
        poll_interval_ms   = 60000
        request_timeout_ms = 10000
        page_size          = 1000
      }
    }

    cert_file = "server.crt"
    key_file  = "server.key"
    ca_file   = "clients.crt"
  }
}

# The same by the name of a workspace block, which says where the configuration comes from.
workspace "acme" {
  config = "workspaceConfig.json"
}

pipeline "acme" {
  source {
    use "gateway" {
      workspace = "acme"
      # Users that requests put and take back, with this token.
      suppression {
        path  = "suppressed-acme"
        token = env.SUPPRESSION_TOKEN
      }
    }
  }
}

# Suppressed users out of a file, and those of all workspaces of a namespace.
pipeline "listed" {
  source {
    use "gateway" {
      workspace = "acme"
      address   = "0.0.0.0:8081"
      suppression {
        path = "suppressed-listed"
        file = "suppressed.jsonl"
      }
    }
  }
}

pipeline "namespace" {
  source {
    use "gateway" {
      workspace = "acme"
      address   = "0.0.0.0:8082"
      suppression {
        path = "suppressed-namespace"
        control_plane {
          url       = "https://api.rudderstack.com"
          token     = env.HOSTED_SERVICE_SECRET
          namespace = "eu-1"
        }
      }
    }
  }
}
