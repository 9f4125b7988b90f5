target {
  use "kafka" {
    brokers   = "b"
    topicname = "t"
  }
}
