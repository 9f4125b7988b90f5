target {
  use "kafka" {
    brokers    = "out.acme.internal:9092"
    topic_name = "events"
  }
}
