source {
  use "stdin" {}
}
log_level = "error"
