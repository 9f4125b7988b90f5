target {
  use "http" {
    url     = "https://gtm.acme.example/events"
    headers = "{\"Authorization\":\"Bearer s3cret-token\",\"X-Price\":\"$${5} %%{x}\"}"
  }
}

failure_target {
  use "http" {
    url     = "https://gtm.acme.example/bad"
    headers = env.HEADERS
  }
}

filter_target {
  use "http" {
    url     = "https://gtm.acme.example/filtered"
    headers = "{\"Authorization\":\"Bearer ${env.TOKEN}\"}"
  }
}
