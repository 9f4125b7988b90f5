source {
  use "sqs" {
    queue_name = "orders"
    region     = "eu-west-1"
  }
}

target {
  use "kinesis" {
    stream_name = "orders"
    region      = "eu-west-1"
    batching {
      max_concurrent_batches = env.WRITES
      max_batch_messages     = 250 # half of what it takes
    }
  }
}

transform {
  use "jq" {
    jq_command = ".order"
  }
  worker_pool = env.WRITES
}
