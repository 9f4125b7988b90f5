heartbeat_interval_seconds = 4
