target {
  use "kafka" {
    brokers    = "broker-1:9092,broker-2:9092"
    topic_name = "events"
  }
}
