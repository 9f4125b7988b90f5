transform {
  use "js" {
    script = file("x.js")
  }
}
