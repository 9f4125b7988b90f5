# Events from a Kinesis stream land in a lake, partitioned by the hour in which they were created.
# README.md goes through it, step by step.

# Who reads which shard, and how far, is in the DynamoDB table that app_name names, which is made
# when it is missing.
source {
  use "kinesis" {
    stream_name = "lesson_events"
    region      = env("AWS_DEFAULT_REGION") != "" ? env("AWS_DEFAULT_REGION") : "eu-west-1"
    app_name    = "lesson_lake"
  }
}

# What is read and not yet landed: room for two buffers of the lake.
in_flight {
  messages = 40000
  bytes    = 67108864
}

transform {
  use "js" {
    script_path = "../lessons/enrich.js"
    json_mode   = true
  }
}

# Each event is there once, however often it was put on the stream or read from it. One process
# writes to a lake: OUT gives another instance one of its own, with its failures.
target {
  use "lake" {
    path        = "${env("OUT") != "" ? env("OUT") : "."}/lake"
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
    path               = "${env("OUT") != "" ? env("OUT") : "."}/failed.jsonl"
    create_directories = true
  }
}
