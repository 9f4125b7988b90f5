pipeline "second" {
  source {
    use "http" {}
  }
}

target {
  use "silent" {}
}
