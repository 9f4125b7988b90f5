source {
  use "http" {}
}
