stats_receiver {
  use "statsd" {
    address = "127.0.0.1:8125"
    prefix  = "acme.replicator"
    tags    = "{\"aws_region\":\"eu-west-1\"}"
  }

  buffer_sec = 15
}
