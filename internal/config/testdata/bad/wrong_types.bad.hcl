ordered          = "sometimes"
drain_timeout_ms = "soon"
log_level        = ["debug"]

transform {
  worker_pool = 1.5
}

in_flight {
  messages = 99999999999999999999999
  bytes    = null
}

monitoring {
  webhook {
    endpoint = "http://x"
    tags     = "a=b"
  }
}
