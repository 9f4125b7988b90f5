target {
  use "kafka" {
    brokers       = "b"
    topic_name    = "t"
    sasl_password = "bad"
  }
}
