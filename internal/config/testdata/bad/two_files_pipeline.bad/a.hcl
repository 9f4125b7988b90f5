pipeline "x" {
  source {
    use "http" {}
  }
}
