target {
  use "sqs" {
    queue_name = "events.fifo"
    region     = "eu-central-1"

    # A role to assume, and an account of somebody else that the queue belongs to.
    role_arn               = "arn:aws:iam::123456789012:role/weir"
    queue_owner_account_id = "210987654321"

    # For stand-ins and private networks only.
    custom_aws_endpoint = "http://127.0.0.1:4566"

    # A payload with "route": {"queue": "orders.fifo"} goes there.
    queue_field = "route.queue"

    # Headers become message attributes; payloads that SQS refuses are sent in base64.
    attributes       = true
    illegal_payloads = "base64"

    # One group for all, but for payloads that name one.
    message_group_id    = "all"
    message_group_field = "user.id"

    # The id that payloads carry, or where they were read.
    deduplication       = "identity"
    deduplication_field = "event_id"
    entries_per_group   = 5

    batching {
      max_batch_messages     = 100
      max_batch_bytes        = 1048576
      max_message_bytes      = 262144
      max_concurrent_batches = 3
      flush_period_millis    = 100
    }
  }
}

failure_target {
  use "sqs" {
    queue_name    = "failures"
    delay_seconds = 60
  }
}
