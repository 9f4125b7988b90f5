pipeline "a" {
}

pipeline "b" {
  source {
    use "stdin" {}
  }
}

pipeline "c" {
}
