target {
  use "http" {
    url = "http://x"
    headers {
      accept = "x"
    }
  }
}
