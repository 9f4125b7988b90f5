target {
  use "kafka" {
    brokers    = var.brokers
    topic_name = local.topics["x"]
  }
}
