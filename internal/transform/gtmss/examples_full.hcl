transform {
  use "spGtmssPreview" {
    # Events collected more than ten minutes ago are refused as invalid.
    expiry_seconds = 600
  }

  use "spEnrichedToJson" {}
}

target {
  use "http" {
    url             = "https://gtm.example.com/com.snowplowanalytics.snowplow/enriched"
    dynamic_headers = true
  }
}
