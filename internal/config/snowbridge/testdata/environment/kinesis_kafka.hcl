source {
  use "kinesis" {
    stream_name              = "enriched"
    region                   = "eu-west-1"
    app_name                 = "replicator-7"
    role_arn                 = "arn:aws:iam::123456789012:role/replicator"
    start_timestamp          = "2023-01-01 10:00:00"
    shard_check_freq_seconds = 20
  }
}

target {
  use "kafka" {
    brokers    = "b1:9093,b2:9093"
    topic_name = "enriched"
    batching {
      max_batch_bytes   = 2000000
      max_message_bytes = 2000000
    }
    compress      = true
    enable_sasl   = true
    sasl_username = "replicator"
    sasl_password = env.TARGET_KAFKA_SASL_PASSWORD
  }
}

failure_target {
  use "kinesis" {
    stream_name = "bad"
    region      = "eu-west-1"
    batching {
      max_batch_messages = 100
    }
  }
}
