# Webhook sources: what their scripts refuse is kept, and can be sent again.
collect "shop" {
  gateway {
    address                  = "127.0.0.1:8080"
    allow_events_without_ids = true
    webhook "Shopify" {
      script_path = "shopify.js"
      version     = "v1"
    }
  }
  workspace {
    config = "workspaceConfig.json"
  }
}

collect "elsewhere" {
  gateway {
    address = "127.0.0.1:8081"
    webhook "Shopify" {
      script_path = "shopify.js"
    }
    failure_target {
      use "file" {
        path = "refused.jsonl"
      }
    }
  }
  workspace {
    config = "workspaceConfig.json"
  }
}
