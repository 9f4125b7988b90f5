sorce {
  use "stdin" {}
}
