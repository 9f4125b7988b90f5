pipeline "a" {
  log_level = "debug"
}
