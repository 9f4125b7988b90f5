target {
  use "kinesis" {
    stream_name = "events"
    region      = "eu-west-1"
    batching {
      max_batch_messages = 500 # as many as there may be
    }
  }
}

failure_target {
  use "kinesis" {
    stream_name = "bad"
    region      = "eu-west-1"
    batching {
      max_batch_messages = env.WRITES < 500 ? env.WRITES : 500
    }
  }
}
