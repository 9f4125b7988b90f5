target {
  use "kafka" {
    brokers    = "b"
    topic_name = "t"
    topics     = ["a" "b"]
  }
}
