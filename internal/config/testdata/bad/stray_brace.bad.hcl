target {
  use "silent" {}
}
}
