target {
  use "kafka" {
    brokers    = env.BROKER
    topic_name = "x-${env.MISSING_TOPIC}"
  }
}
