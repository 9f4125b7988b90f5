source {
  use "http" {
    url = "http://example.com
  }
}
