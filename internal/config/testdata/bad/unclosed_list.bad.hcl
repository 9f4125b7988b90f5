target {
  use "kafka" {
    topics = ["a", "b"
  }
}
