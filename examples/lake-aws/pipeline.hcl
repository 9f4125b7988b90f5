# Kinesis, a Lambda function, and Parquet in S3 by the hour of the events, in every environment: the
# variable ENVIRONMENT is all that differs. README.md goes through it, step by step.

source {
  use "kinesis" {
    stream_name = "acme-${env("ENVIRONMENT", "local")}-events"
    app_name    = "acme-${env("ENVIRONMENT", "local")}-lake"
    region      = env("AWS_DEFAULT_REGION", "eu-west-1")
  }
}

# What is read and not yet landed: the events of an interval.
in_flight {
  messages = 200000
  bytes    = 268435456
}

# The function that Firehose would invoke, as it is.
transform {
  use "lambda" {
    command       = ["python3", "-m", "awslambdaric", "transform.handler"]
    env           = { PYTHONPATH = "python" }
    function_name = "transform"
    concurrency   = 2
  }
}

# Each event once, however often it was put on the stream. A partition becomes a file when it has
# 128 MiB, or every five minutes; every five seconds where somebody waits to see it.
target {
  use "lake" {
    path        = "s3://acme-${env("ENVIRONMENT", "local")}-data/event-streams/data"
    time_field  = "created_at"
    time_format = "epoch_s"
    dedup_field = "event_uuid"
    types = {
      "created_datetime" = "timestamp"
      "score"            = "double"
      "amount"           = "double"
    }
    buffer {
      size_mib         = 128
      interval_seconds = env("ENVIRONMENT", "local") == "local" ? 5 : 300
    }
    s3 {
      region              = env("AWS_DEFAULT_REGION", "eu-west-1")
      custom_aws_endpoint = env("AWS_ENDPOINT_URL_S3", "")
    }
  }
}

# What failed, as Firehose writes it: event-streams/errors/processing-failed/2026/11/30/...
failure_parser {
  format = "firehose"
}
failure_target {
  use "object" {
    path        = "s3://acme-${env("ENVIRONMENT", "local")}-data/event-streams"
    prefix      = "errors/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/"
    stream_name = "acme-events"
    s3 {
      region              = env("AWS_DEFAULT_REGION", "eu-west-1")
      custom_aws_endpoint = env("AWS_ENDPOINT_URL_S3", "")
    }
    batching {
      flush_period_millis = 5000
    }
  }
}
