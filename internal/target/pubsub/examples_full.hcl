target {
  use "pubsub" {
    batching {
      max_batch_messages     = 1000
      max_batch_bytes        = 9437184
      max_message_bytes      = 9437184
      max_concurrent_batches = 8
      flush_period_millis    = 50
    }

    project_id       = "my-project"
    topic_name       = "events"
    credentials_path = "service-account.json"
    endpoint         = "europe-west1-pubsub.googleapis.com:443"

    grpc_connection_pool_size = 4
    request_timeout_in_millis = 30000

    ordering_key = "key"
    attributes   = true
    topic_header = "topic"
  }
}

failure_target {
  use "pubsub" {
    project_id            = "my-project"
    topic_name            = "projects/other-project/topics/failed-events"
    credentials_json_path = "service-account.json"
  }
}
