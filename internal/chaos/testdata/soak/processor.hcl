# The node that sends each event to its destinations, and lands those of the lake.

pipeline "route" {
  source {
    use "queue" {
      name      = "events"
      isolation = "source"
      ordered   = true
    }
  }
  transform {
    use "fanout" {
      workspace_config = env.WORKSPACE_CONFIG
    }
  }
  target {
    use "queue" {
      name = "deliveries"
    }
  }
  failure_target {
    use "file" {
      path               = "${env.OUT}/failed/route.jsonl"
      create_directories = true
    }
  }
}

pipeline "land" {
  source {
    use "queue" {
      name = "landing"
    }
  }
  target {
    use "lake" {
      path                   = "${env.OUT}/lake"
      time_field             = "originalTimestamp"
      missing_time           = "read_time"
      dedup_field            = "messageId"
      dedup_max_ids          = 100000 # so that both indexes are full, and their memory flat, soon
      positions_kept         = 100000
      buffer_max_age_seconds = 5
    }
  }
  failure_target {
    use "file" {
      path               = "${env.OUT}/failed/land.jsonl"
      create_directories = true
    }
  }
}
