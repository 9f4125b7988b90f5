target {
  use "eventhub" {
    namespace       = "acme.servicebus.windows.net"
    name            = "events"
    custom_endpoint = "10.0.0.4"

    # One of these three: an application of Microsoft Entra ID, with a secret or a certificate; a
    # key; a connection string.
    credentials {
      tenant_id     = "11111111-2222-3333-4444-555555555555"
      client_id     = "66666666-7777-8888-9999-000000000000"
      client_secret = "change-me"
      cert_file     = "application.pem"
      cert_password = "change-me"

      key_name  = "send"
      key_value = "change-me"

      connection_string = "Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=change-me"
    }

    batching {
      max_batch_messages     = 400
      max_batch_bytes        = 900000
      max_message_bytes      = 500000
      max_concurrent_batches = 8
      flush_period_millis    = 500
    }

    max_auto_retries           = 2
    context_timeout_in_seconds = 30
    set_eh_partition_key       = true
    send_headers               = true
  }
}
