source {
  use "kafka" {
    brokers         = "broker-1:9092,broker-2:9092"
    topic_name      = "events"
    consumer_name   = "weir"
    offsets_initial = -2
  }
}
