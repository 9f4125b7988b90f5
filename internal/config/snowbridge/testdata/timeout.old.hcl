target {
  use "http" {
    url                        = "https://gtm.acme.example/events"
    request_timeout_in_seconds = 30 # seconds
  }
}

failure_target {
  use "http" {
    url                        = "https://gtm.acme.example/bad"
    request_timeout_in_seconds = env.TIMEOUT
  }
}

filter_target {
  use "http" {
    url                        = "https://gtm.acme.example/filtered"
    request_timeout_in_seconds = "2"
  }
}
