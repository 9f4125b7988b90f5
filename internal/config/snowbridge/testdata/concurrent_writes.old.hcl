source {
  use "sqs" {
    queue_name        = "orders"
    region            = "eu-west-1"
    concurrent_writes = env.WRITES
  }
}

target {
  use "kinesis" {
    stream_name          = "orders"
    region               = "eu-west-1"
    request_max_messages = 250 # half of what it takes
  }
}

transform {
  use "jq" {
    jq_command = ".order"
  }
}
