transform {
  use "spGtmssPreview" {}

  use "spEnrichedToJson" {}
}

target {
  use "http" {
    url             = "https://gtm.example.com/com.snowplowanalytics.snowplow/enriched"
    dynamic_headers = true
  }
}
