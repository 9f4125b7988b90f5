transform {
  use "base64decode" {}
  use "lua" {}
}
