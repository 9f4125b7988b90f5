transform {
  use "js" {
  }
}
