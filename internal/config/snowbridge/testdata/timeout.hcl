target {
  use "http" {
    url                       = "https://gtm.acme.example/events"
    request_timeout_in_millis = 30000 # seconds
  }
}

failure_target {
  use "http" {
    url                       = "https://gtm.acme.example/bad"
    request_timeout_in_millis = env.TIMEOUT * 1000
  }
}

filter_target {
  use "http" {
    url                       = "https://gtm.acme.example/filtered"
    request_timeout_in_millis = 2000
  }
}
