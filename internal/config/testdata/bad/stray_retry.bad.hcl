retry {
  setup {
    delay_ms = 5
  }
}

pipeline "a" {
}
