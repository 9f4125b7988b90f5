license {
  accept = true
}

target {
  use "kafka" {
    brokers    = "out.acme.internal:9092"
    topic_name = "clicks"
    cert_file  = "kafka.crt"
    key_file   = "kafka.key"
  }
}
