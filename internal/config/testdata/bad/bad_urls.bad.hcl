sentry {
  dsn  = "sentry.example/1"
  tags = "team=data"
}

monitoring {
  webhook {
    endpoint = "example.com/hook"
  }
  metadata_reporter {
    endpoint = ""
  }
}

admin {
  address = "localhost"
}

stats_receiver {
  use "statsd" {
    address = ":statsd"
    tags    = "[1]"
  }
}
