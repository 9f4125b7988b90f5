target {
  use "http" {
    url     = "https://gtm.acme.example/events"
    headers = <<JSON
{"Authorization": "Bearer ${env.TOKEN}"}
JSON
    content_type = "application/json"
  }
}

failure_target {
  use "http" {
    url     = "https://gtm.acme.example/bad"
    headers = ""
  }
}

filter_target {
  use "http" {
    headers = <<-JSON
      {"X-Team": "data"}
      JSON
    url     = "https://gtm.acme.example/filtered"
  }
}
