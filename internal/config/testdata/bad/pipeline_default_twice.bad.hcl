target {
  use "silent" {}
}

pipeline "default" {
  source {
    use "http" {}
  }
}
