source {
  use "stdin" {}
}
failure_target {
  use "stdout" {}

  # what the forwarding dashboard reads
  format = "event_forwarding" # not bad rows
}
pipeline "orders" {
  source {
    use "http" {
      url = "127.0.0.1:0"
    }
  }
  failure_target {
    format = "snowplow"
    use "stdout" {}
  }
}
