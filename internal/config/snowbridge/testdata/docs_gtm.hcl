# As pasted from an older page of the documentation.
transform {
  use "spEnrichedToJson" {}
  use "js" {
    script_path = "/tmp/script.js"
  }
}

target {
  use "http" {
    url                       = "https://gtm.acme.example/com.snowplowanalytics.snowplow/enriched"
    request_timeout_in_millis = 5000
    content_type              = "application/json"
    headers = {
      "x-gtm-server-preview" = "ZW52LTE="
    }
  }
}
