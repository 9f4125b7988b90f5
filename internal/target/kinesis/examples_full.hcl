target {
  use "kinesis" {
    stream_name               = "events"
    region                    = "eu-central-1"
    role_arn                  = "arn:aws:iam::123456789012:role/writer"
    role_external_id          = "replicator"
    custom_aws_endpoint       = "http://127.0.0.1:4567"
    request_timeout_in_millis = 15000

    partition_key            = "message"
    explicit_hash_key_header = "x-hash-key"
    stream_header            = "x-stream"

    aggregate           = true
    aggregate_max_bytes = 51200

    batching {
      max_batch_messages     = 500
      max_batch_bytes        = 5242880
      max_message_bytes      = 1048576
      max_concurrent_batches = 5
      flush_period_millis    = 200
    }
  }
}
