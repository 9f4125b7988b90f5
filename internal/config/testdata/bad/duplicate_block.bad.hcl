source {
  use "stdin" {}
}

target {
}

source {
  use "stdin" {}
}
