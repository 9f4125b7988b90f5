# Events to work on, made up at a rate. Leave this file out to feed the jobs yourself.
#
# A position file keeps how far each pipeline came, so that the next start goes on there.

queue "traffic" {}

pipeline "traffic-events" {
  source {
    use "generate" {
      kind          = "events"
      rate          = 50
      position_file = "${env("OUT", "quickstart-data")}/positions/events.json"
    }
  }
  target {
    use "queue" {
      name = "traffic"
    }
  }
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/traffic.jsonl"
      create_directories = true
    }
  }
}

# What an SDK would do: posts batches of events with the write key of the source "website",
# and keeps them until the gateway has answered "ok".
pipeline "traffic-sdk" {
  source {
    use "queue" {
      name = "traffic"
    }
  }
  target {
    use "http" {
      url                 = "http://127.0.0.1:${env("GATEWAY_PORT", "8080")}/v1/batch"
      basic_auth_username = "website"
      template_file       = "batch.tmpl"
    }
  }
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/traffic.jsonl"
      create_directories = true
    }
  }
  retry {
    transient {
      delay_ms     = 200
      max_attempts = 0
      max_delay_ms = 5000
    }
  }
}

pipeline "traffic-orders" {
  source {
    use "generate" {
      kind          = "orders"
      rate          = 5
      position_file = "${env("OUT", "quickstart-data")}/positions/orders.json"
    }
  }
  target {
    use "queue" {
      name = "orders"
    }
  }
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/traffic.jsonl"
      create_directories = true
    }
  }
}

pipeline "traffic-lessons" {
  source {
    use "generate" {
      kind          = "lessons"
      rate          = 100
      position_file = "${env("OUT", "quickstart-data")}/positions/lessons.json"
    }
  }
  target {
    use "queue" {
      name = "lessons"
    }
  }
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/traffic.jsonl"
      create_directories = true
    }
  }
}

pipeline "traffic-stream" {
  source {
    use "generate" {
      kind          = "access_log"
      rate          = 100
      position_file = "${env("OUT", "quickstart-data")}/positions/stream.json"
    }
  }
  target {
    use "queue" {
      name = "stream"
    }
  }
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/traffic.jsonl"
      create_directories = true
    }
  }
}
