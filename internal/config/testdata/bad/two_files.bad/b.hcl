source {
  use "stdin" {}
}

log_level = "info"

transform {
}
