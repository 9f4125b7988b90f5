target {
  use "kinesis" {
    stream_name = "events"
  }
}
