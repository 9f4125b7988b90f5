# Files of up to half a million events: what is in flight must hold that many.
in_flight {
  messages = 1000000
  bytes    = 536870912
}

target {
  use "lake" {
    path         = "lake/lessons"
    time_field   = "created_at"
    time_format  = "epoch_s"
    missing_time = "read_time"
    partition_by = ["year", "month", "day"]

    dedup_field   = "event_uuid"
    dedup_max_ids = 5000000
    positions_kept = 1000000

    types = {
      "payload"          = "json"
      "created_datetime" = "timestamp"
      "score"            = "double"
    }

    buffer_max_events      = 500000
    buffer_max_bytes       = 134217728
    buffer_max_age_seconds = 300
    max_message_bytes      = 262144
    max_concurrent_batches = 3

    max_file_bytes      = 134217728
    max_open_partitions = 64
    max_depth           = 8
    max_columns         = 500
  }
}
