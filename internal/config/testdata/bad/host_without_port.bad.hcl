stats_receiver {
  use "statsd" {
    address = "statsd.example.com"
    prefix  = "events"
  }
}
