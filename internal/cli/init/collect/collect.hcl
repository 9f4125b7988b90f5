# Collect events over HTTP, and send each to the destinations of its source. An answer "ok" means
# that the event is on disk.
#
#   SDK -> gateway -> [queue] -> processor -> [queue] -> router -> destinations
#
# The queues are kept in weir-data: a crash or a destination that is down loses nothing.
# weir explain collect.hcl writes out the pipelines that this is.
collect "events" {
  # What RudderStack's SDKs send to.
  gateway {
    address = "127.0.0.1:8080"
    failure_target {
      use "file" {
        path = "failed.jsonl"
      }
    }
  }
  # Who may send, by write key, and to which destinations it goes.
  workspace {
    config = "workspaceConfig.json"
  }
  # The destination "archive" is a file; others are webhooks. Other targets: weir list.
  router {
    target {
      when = "destination == 'archive'"
      use "file" {
        path = "events.jsonl"
      }
    }
    target {
      use "webhook" {}
    }
  }
}

# /metrics, /healthz and /readyz; weir queue asks it too, while this runs.
admin {
  address = "127.0.0.1:8081"
}
