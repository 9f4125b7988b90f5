source {
  use "stdin" {}
}
