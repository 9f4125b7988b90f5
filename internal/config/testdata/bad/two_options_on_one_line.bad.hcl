retry {
  setup { delay_ms = 1, max_attempts = 2 }
}
