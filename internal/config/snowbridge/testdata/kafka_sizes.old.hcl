target {
  use "kafka" {
    brokers         = "out.acme.internal:9092"
    topic_name      = "events"
    byte_limit      = 2097152
    flush_messages  = 0
    flush_bytes     = 0
    flush_frequency = 50
    max_retries     = 10
  }
}

failure_target {
  use "kafka" {
    brokers        = "out.acme.internal:9092"
    topic_name     = "bad"
    flush_messages = env.NONE
    flush_bytes    = 65536
  }
}

filter_target {
  use "kafka" {
    brokers     = "out.acme.internal:9092"
    topic_name  = "filtered"
    byte_limit  = env.SIZE
    flush_bytes = env.NONE
  }
}
