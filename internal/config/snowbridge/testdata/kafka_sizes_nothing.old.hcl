target {
  use "kafka" {
    brokers     = "out.acme.internal:9092"
    topic_name  = "events"
    flush_bytes = 65536 # kept small for the old brokers
  }
}
