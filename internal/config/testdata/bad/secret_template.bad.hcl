target {
  use "kafka" {
    brokers       = "b"
    topic_name    = "t"
    sasl_password = "pa${hunter2secret}x${hunter2()}"
  }
}
