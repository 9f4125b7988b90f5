source {
  use "http" {
    url = "0.0.0.0:8080"
  }
}
