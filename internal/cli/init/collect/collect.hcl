# Collect events over HTTP. An answer "ok" means that the event is on disk.
#
#   SDK -> gateway -> [queue events] -> file

# One queue for what was accepted, kept in weir-data: a crash or a target that is down loses
# nothing.
queue "events" {}

# What RudderStack's SDKs send to. Who may send is in workspaceConfig.json, by write key.
pipeline "gateway" {
  source {
    use "gateway" {
      workspace_config = "workspaceConfig.json"
      address          = "127.0.0.1:8080"
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
  failure_target {
    use "file" {
      path = "failed.jsonl"
    }
  }
}

# Where they go. Other targets: weir list. To send each event to the destinations of its
# source, put the transform "fanout" before a target "webhook".
pipeline "deliver" {
  source {
    use "queue" {
      name = "events"
    }
  }
  target {
    use "file" {
      path = "events.jsonl"
    }
  }
  failure_target {
    use "file" {
      path = "failed.jsonl"
    }
  }
}

# /metrics, /healthz and /readyz; weir queue asks it too, while this runs.
admin {
  address = "127.0.0.1:8081"
}
