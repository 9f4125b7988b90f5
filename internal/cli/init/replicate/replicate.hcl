# Replicate a stream: what comes in goes out, byte for byte and in order.
#
#   file -> file
#
# These blocks, without a pipeline block around them, are a config of Snowbridge.

source {
  use "file" {
    path          = "in.log"
    follow        = true
    position_file = "in.position" # the next start goes on here
  }

  # From Kinesis instead; see weir list kinesis, and kafka, sqs, pubsub, eventhub:
  # use "kinesis" {
  #   stream_name = "events"
  #   region      = "eu-central-1"
  #   app_name    = "replicate"
  # }
}

# Change what passes, in JavaScript, Lua or jq; see weir list.
# transform {
#   use "jq" {
#     jq_command = ".replicated = true"
#   }
# }

target {
  use "file" {
    path = "out.log"
  }

  # To Kafka instead:
  # use "kafka" {
  #   brokers    = "localhost:9092"
  #   topic_name = "events"
  # }
}

# What the target does not take, each with its reason.
failure_target {
  use "file" {
    path = "failed.jsonl"
  }
}

# /metrics, /healthz and /readyz.
admin {
  address = "127.0.0.1:8081"
}
