drain_timeout_ms = 0

transform {
  worker_pool = -1
}

in_flight {
  messages = 0
  bytes    = -5
}

retry {
  transient {
    delay_ms     = -1
    max_attempts = -2
    max_delay_ms = 0
  }
  setup {
    delay_ms     = 2000
    max_delay_ms = 1000
  }
}

stats_receiver {
  buffer_sec = 0
}

monitoring {
  webhook {
    endpoint                   = "http://x"
    heartbeat_interval_seconds = 0
  }
}
