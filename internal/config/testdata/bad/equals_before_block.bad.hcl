source = {
  use = "stdin"
}
