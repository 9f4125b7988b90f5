target {
  use "eventhub" {
    namespace           = "acme"
    name                = "events"
    chunk_message_limit = 100
    chunk_byte_limit    = 300000
    message_byte_limit  = 1048576
  }
}

failure_target {
  use "eventhub" {
    namespace        = "acme"
    name             = "bad"
    batch_byte_limit = 262144 # basic tier
  }
}

filter_target {
  use "eventhub" {
    namespace          = "acme"
    name               = "filtered"
    chunk_byte_limit   = env.SIZE
    message_byte_limit = 500000
    batch_byte_limit   = env.SIZE
  }
}
