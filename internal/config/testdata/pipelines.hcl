# Only named pipelines: there is no pipeline "default".
log_level = "warning"

pipeline "clicks" {
  source {
    use "http" {}
  }
  ordered = true
  in_flight {
    messages = 10
  }
}

pipeline "orders.v2" {
  source {
    use "kafka" {
      brokers    = "b:9092"
      topic_name = "orders"
    }
  }
  target {
    use "silent" {}
  }
  transform {
    worker_pool = 2
  }
  drain_timeout_ms = 1
}
