# What a shop collects.
collect "shop" {
  gateway {
    address = "127.0.0.1:8080" # of the SDKs
    failure_target {
      use "file" {
        path = "failed.jsonl"
      }
    }
  }
  workspace {
    config = env("WORKSPACE", "workspaceConfig.json")
  }
  processor {
    isolation = "workspace"
    transform {
      worker_pool = 2
      use "jq" {
        jq_command = "{type, userId}"
      }
    }
    deduplicate {}
    transformations {
      directory = "transformations"
    }
    filter_target {
      use "stdout" {}
    }
  }
  router {
    max_batch_messages = 10
    target {
      when = "destination == 'archive'"
      use "file" {
        path = "archive.jsonl"
      }
    }
    target {
      use "webhook" {}
    }
    throttle {
      messages_per_second = 5
    }
  }
  archive {
    target {
      use "object" {
        path = "s3://acme-archive/events"
      }
    }
    retry {
      transient {
        delay_ms = 500
      }
    }
  }
}

# Everything by itself.
collect "little" {
  gateway {
    address = "127.0.0.1:8081"
  }
  workspace {
    config = "other.json"
  }
}

# This one takes the place of the one that the block stands for.
pipeline "little-router" {
  source {
    use "queue" {
      name = "little-router"
    }
  }
}
