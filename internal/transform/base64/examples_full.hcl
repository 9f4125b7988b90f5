source {
  use "stdin" {}
}

transform {
  use "base64Decode" {}

  use "base64Encode" {}
}

target {
  use "stdout" {}
}
