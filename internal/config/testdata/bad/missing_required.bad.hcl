target {
  use "kafka" {
    brokers = "b"
  }
}
