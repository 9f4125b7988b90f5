# Web-server access logs become JSON and are posted to an HTTP endpoint.
#
#   weir run examples/access-logs
#
# Two pipelines in one process: "ship" reads the log and posts events; "collect" is the
# endpoint they are posted to, and writes what it receives to a file. Set EVENTS_URL to
# post somewhere else.

pipeline "ship" {
  source {
    use "file" {
      path = env("ACCESS_LOG") != "" ? env("ACCESS_LOG") : "access.log"
    }
  }

  transform {
    use "js" {
      script_path = "parse.js"
    }
  }

  target {
    use "http" {
      url = env("EVENTS_URL") != "" ? env("EVENTS_URL") : "http://127.0.0.1:8089/"
      # One event a line instead of a JSON array.
      template_file = "lines.tmpl"
      content_type  = "application/x-ndjson"
      batching {
        max_batch_messages = 25
      }
    }
  }

  # Lines that are no access log entries, each with its reason.
  failure_target {
    use "file" {
      path = "${env("OUT") != "" ? env("OUT") : "."}/failed.jsonl"
    }
  }

  # The endpoint fails now and then: try again soon, and never give up.
  retry {
    transient {
      delay_ms     = 200
      max_attempts = 0
      max_delay_ms = 5000
    }
  }
}
