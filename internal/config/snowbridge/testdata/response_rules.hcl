target {
  use "http" {
    url = "https://gtm.acme.example/com.snowplowanalytics.snowplow/enriched"

    response_rules {
      # the tag's own validation
      rule {
        type       = "invalid"
        http_codes = [400]
        body       = "unknown event"
      }
      rule {
        type       = "invalid"
        http_codes = [413]
      }
      # credentials rotate on Mondays
      rule {
        type       = "setup"
        http_codes = [401, 403] # both are the proxy's
      }
      rule {
        type       = "setup"
        http_codes = [503]
        body       = "maintenance"
      }

    }
  }
}
