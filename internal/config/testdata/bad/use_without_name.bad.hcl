target {
  use {
  }
}
