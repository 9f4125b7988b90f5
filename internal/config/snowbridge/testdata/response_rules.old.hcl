target {
  use "http" {
    url = "https://gtm.acme.example/com.snowplowanalytics.snowplow/enriched"

    response_rules {
      # credentials rotate on Mondays
      setup {
        http_codes = [401, 403] # both are the proxy's
      }

      # the tag's own validation
      invalid {
        http_codes = [400]
        body       = "unknown event"
      }
      invalid { http_codes = [413] }
      setup {
        http_codes = [503]
        body       = "maintenance"
      }
    }
  }
}
