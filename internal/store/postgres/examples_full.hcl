store {
  use "postgres" {
    dsn                 = env.WEIR_STORE_DSN
    schema              = "weir_queues"
    partitions          = 64
    spread              = 4
    process_name        = "collector-1"
    max_committers      = 8
    max_readers         = 16
    lease_seconds       = 10
    poll_interval_ms    = 500
    patience_seconds    = 20
    start_wait_seconds  = 300
    timeout_seconds     = 60
    max_bytes           = 107374182400
    segment_bytes       = 134217728
    segment_age_seconds = 300
    cache_bytes         = 33554432
  }
}
