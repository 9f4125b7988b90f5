# A door with a certificate in a file that is older elsewhere.
source {
  use "http" {
    url       = "0.0.0.0:8443"
    cert_file = "/etc/pki/door.crt"
    key_file  = "/etc/pki/door.key"
  }
}

target {
  use "http" {
    url = "https://loader.acme.internal/v1/clicks"
    batching {
      max_batch_bytes   = 400000
      max_message_bytes = 400000
    }
    body_format = "raw"
  }
}
