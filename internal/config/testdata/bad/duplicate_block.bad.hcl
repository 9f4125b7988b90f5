target {
  use "silent" {}
}

source {
}

target {
  use "stdout" {}
}
