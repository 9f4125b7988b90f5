target {
  use "kafka" {
    brokers    = env
    topic_name = env.BROKERS.x
    region     = env(1, 2)
  }
}
