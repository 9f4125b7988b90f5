retry {
  transient {
    delay_sec   = 5
    max_attempt = 3
  }
  setup {
    delay_millis = 2500
  }
}

stats_receiver {
  buffer_secs = 20
}

monitoring {
  endpoint           = "https://example.com/alerts"
  tags               = { team = "data" }
  heartbeat_interval = 60
}

disable_telemetri = true
