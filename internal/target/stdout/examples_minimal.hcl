target {
  use "stdout" {}
}
