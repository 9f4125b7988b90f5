# Lesson events land in a lake, partitioned by the hour in which they were created.
#
#   weir produce --rate 300 --count 100000 | weir run examples/lessons
#   weir lake ls examples/lessons/lake
#
# Each event has event_uuid, event_name ("lesson:started") and created_at, in seconds since
# 1970. The script adds event_type, event_subtype and created_datetime. The files are plain
# Parquet in folders that every reader of Hive layouts knows:
#
#   duckdb -c "SELECT event_type, count(*) FROM 'examples/lessons/lake/**/*.parquet' GROUP BY 1"
#
# Feed it the same events again, whole or in part, after a crash or not: dedup_field keeps
# each once. OUT moves the lake and the failures to another folder.

source {
  use "stdin" {}
}

# What is read and not yet landed: room for two buffers of the lake.
in_flight {
  messages = 40000
  bytes    = 67108864
}

transform {
  use "js" {
    script_path = "enrich.js"
    json_mode   = true
  }
}

target {
  use "lake" {
    path        = "${env("OUT") != "" ? "${env("OUT")}/" : ""}lake"
    time_field  = "created_at"
    time_format = "epoch_s"
    dedup_field = "event_uuid"
    types = {
      "created_datetime" = "timestamp"
      "score"            = "double"
      "amount"           = "double"
    }
    buffer_max_events      = 20000
    buffer_max_age_seconds = 10
  }
}

# Events without a name or a time, each with its reason.
failure_target {
  use "file" {
    path               = "${env("OUT") != "" ? "${env("OUT")}/" : ""}failed.jsonl"
    create_directories = true
  }
}
