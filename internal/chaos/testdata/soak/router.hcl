# The node that delivers: by HTTP, or into the queue of the lake or of the machine.

pipeline "deliver" {
  source {
    use "queue" {
      name               = "deliveries"
      isolation          = "destination"
      ordered            = true
      max_batch_messages = 200
    }
  }
  routing = "first"
  target {
    when = "destination == 'lake'"
    use "queue" {
      name = "landing"
    }
  }
  target {
    when = "destination == 'machine'"
    use "queue" {
      name = "orders"
    }
  }
  target {
    use "webhook" {
      workspace_config = env.WORKSPACE_CONFIG
    }
  }
  failure_target {
    use "file" {
      path               = "${env.OUT}/failed/deliver.jsonl"
      create_directories = true
    }
  }
  retry {
    transient {
      delay_ms     = 200
      max_attempts = 0
      max_delay_ms = 2000
    }
  }
}
