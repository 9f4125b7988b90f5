target {
  use "silent" {
    url = "x"
  }
}
