source {}

transform {}

target {
  use "kafka" {
    brokers    = "b:9092"
    topic_name = "t"
    batching { max_batch_messages = 10 }
  }
}

retry {
  setup { delay_ms = 5 }
}

stats_receiver {
  use "statsd" {
    address = "localhost:8125"
  }
}

monitoring {
  webhook {
    endpoint = "http://localhost/hook"
  }
}
