log_level = "debug"

source {
  use "http" {}
}

transform {
}

pipeline "x" {
  source {
    use "http" {}
  }
}
