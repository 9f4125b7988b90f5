source {
  use "kafka" {
    brokers        = "broker-1:9093,broker-2:9093"
    target_version = "3.6.0"

    topic_name    = "events-.*"
    topic_pattern = true

    consumer_name       = "weir"
    group_id            = "weir-orders"
    offsets_initial     = -2
    offset_out_of_range = "fail"
    isolation           = "read_uncommitted"
    partition_key       = "source"

    assignor             = "range"
    instance_id          = "weir-1"
    session_timeout_ms   = 30000
    rebalance_timeout_ms = 120000
    commit_interval_ms   = 1000
    max_processing_ms    = 300000

    max_poll_records          = 5000
    fetch_max_bytes           = 16777216
    fetch_max_partition_bytes = 2097152
    fetch_max_wait_ms         = 100

    enable_sasl    = true
    sasl_algorithm = "oauthbearer"
    sasl_version   = 1

    # With sasl_algorithm "sha512", "sha256" or "plaintext".
    sasl_username = "weir"
    sasl_password = "change-me"

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
