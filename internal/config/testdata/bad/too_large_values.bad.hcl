drain_timeout_ms = 99999999999999

stats_receiver {
  buffer_sec = 99999999999999
}
