target {
  use "http" {
    url = "https://example.com/events"
  }
}
