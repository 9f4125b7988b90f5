target {
  use "kafka" {
    batching {
      max_batch_messages     = 1000
      max_batch_bytes        = 4194304
      max_message_bytes      = 1000000
      max_concurrent_batches = 10
      flush_period_millis    = 100
    }

    brokers        = "broker-1:9093,broker-2:9093"
    target_version = "3.6.0"

    # The topic of messages that name none themselves, in a header or else in a field.
    topic_name   = "events"
    topic_header = "Topic"
    topic_field  = "event.type"
    topic_prefix = "events-"

    partitioner  = "murmur2"
    missing_key  = "none"
    send_headers = true
    timestamp    = "now"

    compression           = "zstd"
    compress              = true
    idempotent            = true
    wait_for_all          = true
    max_retries           = 10
    delivery_timeout_ms   = 60000
    force_sync_producer   = true

    # With a kafka source of the same cluster.
    transactional           = true
    transactional_id        = "weir-1"
    transaction_interval_ms = 500
    transaction_timeout_ms  = 20000

    enable_sasl    = true
    sasl_algorithm = "sha256"
    sasl_username  = "weir"
    sasl_password  = "change-me"
    sasl_version   = 1

    # With sasl_algorithm "oauthbearer".
    sasl_oauth {
      client_id     = "client"
      client_secret = "change-me"
      refresh_token = "change-me"
      token_url     = "https://auth.example.com/token"
      scopes        = ["kafka"]
    }

    enable_tls      = true
    cert_file       = "client.crt"
    key_file        = "client.key"
    ca_file         = "ca.crt"
    skip_verify_tls = true
  }
}
