store {
  use "embedded" {}
}
