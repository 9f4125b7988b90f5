# Collect events over HTTP, and route each to the destinations of its source.
#
#   SDK -> gateway -> [queue events] -> fanout -> [queue deliveries] -> webhook | JSON file
#
# workspaceConfig.json says who is who: the source "website" is connected to the destinations
# "webhook", which takes track events, and "archive", which takes all; "app" to "archive".
# The webhook is called by HTTP; the archive is a file with one event a line.

queue "events" {}
queue "deliveries" {}

# Answers "ok" once the events of a request are in the queue, on disk.
pipeline "gateway" {
  source {
    use "gateway" {
      workspace_config = env("WORKSPACE_CONFIG", "workspaceConfig.json")
      address          = "127.0.0.1:${env("GATEWAY_PORT", "8080")}"
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/gateway.jsonl"
      create_directories = true
    }
  }
}

# One message for each destination. Both queues are in one store: a message leaves the one
# and enters the other in a single step, so none is lost or doubled here.
pipeline "route" {
  source {
    use "queue" {
      name      = "events"
      isolation = "source"
      ordered   = true # the events of a user stay in order
    }
  }
  transform {
    use "fanout" {
      workspace_config = env("WORKSPACE_CONFIG", "workspaceConfig.json")
    }
  }
  target {
    use "queue" {
      name = "deliveries"
    }
  }
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/route.jsonl"
      create_directories = true
    }
  }
}

# Each destination is worked on by itself: one that is down holds up no other. While an event
# waits to be tried again, later ones of its user wait too, and those of others go on.
pipeline "deliver" {
  source {
    use "queue" {
      name      = "deliveries"
      isolation = "destination"
      ordered   = true
      # What is settled together: the fewer, the less is delivered again after a crash.
      max_batch_messages = 100
    }
  }
  # What a destination is decides how it is reached.
  routing = "first"
  target {
    when = "destination == 'archive'"
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/files/archive.jsonl"
      create_directories = true
    }
  }
  target {
    use "webhook" {
      workspace_config = env("WORKSPACE_CONFIG", "workspaceConfig.json")
    }
  }
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/deliver.jsonl"
      create_directories = true
    }
  }
  # A delivery that fails waits in the queue, and is never given up.
  retry {
    transient {
      delay_ms     = 200
      max_attempts = 0
      max_delay_ms = 5000
    }
  }
}

# Elsewhere the webhook would be somebody's server; here it is a pipeline that writes what it
# is sent into a file, too.
pipeline "webhook" {
  source {
    use "http" {
      url = "127.0.0.1:${env("WEBHOOK_PORT", "8082")}"
    }
  }
  target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/files/webhook.jsonl"
      create_directories = true
    }
  }
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/webhook.jsonl"
      create_directories = true
    }
  }
}
