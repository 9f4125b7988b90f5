# Clickstream to the warehouse loader, deployed with 2.4.2.
source {
  use "kafka" {
    brokers         = "in-1.acme.internal:9093,in-2.acme.internal:9093"
    topic_name      = "clicks"
    consumer_name   = "loader"
    offsets_initial = -2
    cert_file       = "/etc/pki/kafka.crt"
    key_file        = "/etc/pki/kafka.key"
    ca_file         = "/etc/pki/ca.crt"
  }
}

target {
  use "http" {
    url        = "https://loader.acme.internal/v1/clicks"
    byte_limit = 400000 # the loader's own limit
    cert_file  = "/etc/pki/loader.crt"
    key_file   = "/etc/pki/loader.key"
    ca_file    = "/etc/pki/ca.crt"
  }
}

failure_target {
  use "kafka" {
    brokers    = "out.acme.internal:9093"
    topic_name = "clicks-bad"
    cert_file  = ""
    key_file   = ""
  }
}
