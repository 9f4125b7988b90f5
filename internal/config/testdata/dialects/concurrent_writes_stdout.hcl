source {
  use "stdin" {
  }
}
