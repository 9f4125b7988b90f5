queue {}

store {
  use "embeded" {}
}
