target {
  use "kafka" {
    brokers    = "b"
    topic_name = "t"
    colour     = "red"
  }
}
