target {
  use "kinesis" {
    stream_name          = "events"
    region               = "eu-west-1"
    request_max_messages = 1000 # as many as there may be
  }
}

failure_target {
  use "kinesis" {
    stream_name          = "bad"
    region               = "eu-west-1"
    request_max_messages = env.WRITES
  }
}
