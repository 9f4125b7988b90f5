target {
  use "eventhub" {
    namespace = "acme"
    name      = "events"
    batching {
      max_batch_messages = 100
      max_batch_bytes    = 1048576
      max_message_bytes  = 1048576
    }
  }
}

failure_target {
  use "eventhub" {
    namespace = "acme"
    name      = "bad"
    batching {
      max_batch_bytes   = 262144 # basic tier
      max_message_bytes = 262144
    }
  }
}

filter_target {
  use "eventhub" {
    namespace = "acme"
    name      = "filtered"
    batching {
      max_batch_bytes   = env.SIZE > (500000 < env.SIZE ? 500000 : env.SIZE) ? env.SIZE : (500000 < env.SIZE ? 500000 : env.SIZE)
      max_message_bytes = 500000 < env.SIZE ? 500000 : env.SIZE
    }
  }
}
