source {
  use "sqs" {
    queue_name = "events.fifo"
    region     = "eu-central-1"

    # A role to assume, and an account of somebody else that the queue belongs to.
    role_arn               = "arn:aws:iam::123456789012:role/weir"
    queue_owner_account_id = "210987654321"

    # For stand-ins and private networks only.
    custom_aws_endpoint = "http://127.0.0.1:4566"

    # The group of a message becomes its key.
    partition_key = "source"

    # How long messages stay hidden when this process dies; while it lives it extends the time.
    visibility_timeout_seconds = 60
    wait_time_seconds          = 10
    concurrent_receives        = 8

    # What cannot be delivered goes to the failure target, though the queue has a redrive policy.
    dead_letters         = "failure_target"
    max_waiting_messages = 500
  }
}
