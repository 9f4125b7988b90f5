retry {
  transient {
    give_up_after_ms = -1
  }
  setup {
    give_up_after_ms = 99999999999999
  }
}
