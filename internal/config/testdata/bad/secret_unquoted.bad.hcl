target {
  use "kafka" {
    sasl_password = hunter2secret
  }
}
