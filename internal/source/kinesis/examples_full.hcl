source {
  use "kinesis" {
    stream_name               = "events"
    region                    = "eu-central-1"
    app_name                  = "weir"
    role_arn                  = "arn:aws:iam::123456789012:role/reader"
    role_external_id          = "replicator"
    custom_aws_endpoint       = "http://127.0.0.1:4566"
    custom_dynamodb_endpoint  = "http://127.0.0.1:8000"

    starting_position = "at_timestamp"
    start_timestamp   = "2026-11-29 17:30:00"
    invalid_position  = "trim_horizon"

    leases                     = "dynamodb"
    client_name                = "instance-1"
    failover_seconds           = 5
    shard_check_freq_seconds   = 10
    leader_action_freq_seconds = 60
    checkpoint_interval_ms     = 1000

    consumer_name          = "weir"
    read_throttle_delay_ms = 250
    idle_delay_ms          = 1000
    get_records_limit      = 10000
    max_concurrent_shards  = 16
    max_buffer_bytes       = 33554432
    max_batch_messages     = 1000
    buffer_size            = 100

    deaggregation   = "on"
    foreign_records = "drop"
    partition_key   = "source"
  }
}
