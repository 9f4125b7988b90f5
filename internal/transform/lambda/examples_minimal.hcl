transform {
  use "lambda" {
    command = ["./bootstrap"]
  }
}
