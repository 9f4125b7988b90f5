log_level = "panic"
target {
  use "silent" {}
}
