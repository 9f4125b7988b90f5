target {
  use "silent" {}
  use "stdout" {}
}
