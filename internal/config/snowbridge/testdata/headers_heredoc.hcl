target {
  use "http" {
    url = "https://gtm.acme.example/events"
    headers = jsondecode(
      <<JSON
{"Authorization": "Bearer ${env.TOKEN}"}
JSON
    )
    content_type = "application/json"
  }
}

failure_target {
  use "http" {
    url = "https://gtm.acme.example/bad"
  }
}

filter_target {
  use "http" {
    headers = {
      "X-Team" = "data"
    }
    url = "https://gtm.acme.example/filtered"
  }
}
