transform {
  use "base64Decode" {}
}
