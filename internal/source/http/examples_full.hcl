source {
  use "http" {
    url  = "0.0.0.0:8443"
    path = "/events"

    host_names = ["events.example.com"]

    request_batch_limit = 500
    max_body_bytes      = 33554432
    max_line_bytes      = 1048576
    max_batch_messages  = 2000
    max_batch_bytes     = 4194304

    max_in_flight_requests = 500
    max_in_flight_bytes    = 134217728
    max_connections        = 5000

    response_timeout_millis    = 20000
    retry_after_seconds        = 5
    read_header_timeout_millis = 5000
    read_timeout_millis        = 30000
    idle_timeout_millis        = 60000

    basic_auth_username = "weir"
    basic_auth_password = "change-me"
    bearer_token        = "change-me"

    cert_file = "server.crt"
    key_file  = "server.key"
    ca_file   = "clients.crt"

    forward_headers = ["X-Request-Id", "User-Agent"]
  }
}
