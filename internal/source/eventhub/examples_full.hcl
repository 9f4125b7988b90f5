source {
  use "eventhub" {
    namespace       = "acme.servicebus.windows.net"
    name            = "events"
    consumer_group  = "weir"
    custom_endpoint = "10.0.0.4"

    # One of these three: an application of Microsoft Entra ID, with a secret or a certificate; a
    # key; a connection string.
    credentials {
      tenant_id     = "11111111-2222-3333-4444-555555555555"
      client_id     = "66666666-7777-8888-9999-000000000000"
      client_secret = "change-me"
      cert_file     = "application.pem"
      cert_password = "change-me"

      key_name  = "listen"
      key_value = "change-me"

      connection_string = "Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey=change-me"
    }

    # Without a key of the storage account, the identity above is used.
    checkpoints {
      container_url     = "https://acme.blob.core.windows.net/checkpoints"
      account_key       = "Y2hhbmdlLW1l"
      connection_string = "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=Y2hhbmdlLW1l;EndpointSuffix=core.windows.net"
    }

    # With start_timestamp, start_position counts no more.
    start_position  = "latest"
    start_timestamp = "2026-11-29T12:00:00Z"
    partition_key   = "source"

    balance_interval_millis    = 5000
    ownership_expiry_millis    = 20000
    checkpoint_interval_millis = 2000
    replay_consumer_group      = "weir-replay"

    prefetch           = 1000
    max_batch_messages = 2000
    max_batch_bytes    = 4194304
  }
}
