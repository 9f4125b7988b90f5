# Land JSON events in a lake: Parquet files in folders by the hour of each event, with a
# schema that follows the events.
#
#   HTTP -> [queue events] -> lake
#
#   weir lake head lake
#   duckdb -c "SELECT * FROM 'lake/**/*.parquet'"

# What was accepted waits here, kept in weir-data, until it is in the lake.
queue "events" {}

# One event a line.
pipeline "accept" {
  source {
    use "http" {
      url = "127.0.0.1:8080"
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
  failure_target {
    use "file" {
      path = "failed.jsonl"
    }
  }
}

pipeline "land" {
  source {
    use "queue" {
      name = "events"
    }
  }
  target {
    use "lake" {
      path       = "lake"
      time_field = "time"
      # An event that comes twice with one id is landed once.
      dedup_field = "id"
      # A longer time makes larger files.
      buffer_max_age_seconds = 5
    }
  }
  # Events without a time, for example. See weir failures ls lake.hcl.
  failure_target {
    use "file" {
      path = "failed.jsonl"
    }
  }
}

# /metrics, /healthz and /readyz; weir queue asks it too, while this runs.
admin {
  address = "127.0.0.1:8081"
}
