source {
  use "pubsub" {
    project_id      = "my-project"
    subscription_id = "events-weir"

    max_outstanding_messages     = 5000
    max_outstanding_bytes        = 2e9
    min_extension_period_seconds = 60
    max_extension_seconds        = 7200
    streaming_pull_goroutines    = 2
    grpc_connection_pool_size    = 2

    partition_key    = "source"
    credentials_path = "service-account.json"
    endpoint         = "europe-west1-pubsub.googleapis.com:443"
  }
}
