target {
  use "kafka" {
    brokers    = "out.acme.internal:9092"
    topic_name = "events"
    batching {
      max_batch_bytes     = 2097152
      max_message_bytes   = 2097152
      flush_period_millis = 50
    }
    max_retries = 10
  }
}

failure_target {
  use "kafka" {
    brokers    = "out.acme.internal:9092"
    topic_name = "bad"
    batching {
      max_batch_messages = env.NONE > 0 ? env.NONE : 100
    }
  }
}

filter_target {
  use "kafka" {
    brokers    = "out.acme.internal:9092"
    topic_name = "filtered"
    batching {
      max_batch_bytes   = (env.NONE > 0 ? env.NONE : 1048576) > env.SIZE ? (env.NONE > 0 ? env.NONE : 1048576) : env.SIZE
      max_message_bytes = env.SIZE
    }
  }
}
