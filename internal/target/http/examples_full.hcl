target {
  use "http" {
    batching {
      max_batch_messages     = 20
      max_batch_bytes        = 500000
      max_message_bytes      = 500000
      max_concurrent_batches = 10
      flush_period_millis    = 500
    }

    url                       = "https://example.com/events"
    method                    = "PUT"
    request_timeout_in_millis = 2000
    body_format               = "json_array"
    content_type              = "application/json; charset=utf-8"
    headers = {
      "X-Api-Key" = "change-me"
    }
    dynamic_headers = true
    dynamic_url     = "X-Target-Path"
    compression     = "gzip"

    basic_auth_username = "weir"
    basic_auth_password = "change-me"

    enable_tls      = true
    cert_file       = "client.crt"
    key_file        = "client.key"
    ca_file         = "ca.crt"
    skip_verify_tls = true

    # One of these three: oauth_client, oauth_jwt, or the older oauth2_ options.
    oauth2_client_id     = "client"
    oauth2_client_secret = "change-me"
    oauth2_refresh_token = "change-me"
    oauth2_token_url     = "https://auth.example.com/token"

    oauth_client {
      client_id     = "client"
      client_secret = "change-me"
      refresh_token = "change-me"
      token_url     = "https://auth.example.com/token"
      scopes        = ["events.write"]
    }

    oauth_jwt {
      issuer           = "weir@example.com"
      private_key      = "change-me"
      private_key_file = "service-account.pem"
      key_id           = "key-1"
      subject          = "user@example.com"
      audience         = "https://auth.example.com/"
      scopes           = ["events.write"]
      token_url        = "https://auth.example.com/token"
    }

    sigv4 {
      region            = "eu-central-1"
      service           = "execute-api"
      access_key_id     = "AKIDEXAMPLE"
      secret_access_key = "change-me"
      session_token     = "change-me"
    }

    template_file = "request.tmpl"
    response_rules {
      rule {
        type       = "invalid"
        http_codes = [400]
        body       = "bad field"
      }
      rule {
        type       = "setup"
        http_codes = [401, 403]
      }
      rule {
        type       = "throttle"
        http_codes = [429]
      }
      rule {
        type       = "fatal"
        http_codes = [0]
        body       = "no such host"
      }
    }
    metadata_safe_mode = true
    bisect             = true

    include_timing_headers        = true
    rejection_threshold_in_millis = 100
  }
}
