transform {
  use "js" {
    script = read("x.js")
  }
}
