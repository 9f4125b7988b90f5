target {
  use "silent" {}
}
