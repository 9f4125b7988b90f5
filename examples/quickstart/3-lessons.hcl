# Land events in a lake: Parquet files in folders by the hour of each event.
#
#   [queue lessons] -> enrich -> lake
#
#   duckdb -c "SELECT event_type, count(*) FROM 'examples/quickstart/quickstart-data/lake/**/*.parquet' GROUP BY 1"

queue "lessons" {}

pipeline "lessons" {
  source {
    use "queue" {
      name = "lessons"
    }
  }

  # Adds the two parts of the name, and the time as people read it.
  transform {
    use "js" {
      script_path = "../lessons/enrich.js"
      json_mode   = true
    }
  }

  # An event that is delivered again, after a crash, is in the lake once: dedup_field.
  target {
    use "lake" {
      path        = "${env("OUT", "quickstart-data")}/lake"
      time_field  = "created_at"
      time_format = "epoch_s"
      dedup_field = "event_uuid"
      types = {
        "created_datetime" = "timestamp"
        "score"            = "double"
        "amount"           = "double"
      }
      buffer_max_age_seconds = 5
    }
  }

  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/lessons.jsonl"
      create_directories = true
    }
  }
}
