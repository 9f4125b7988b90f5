# Keep the events of the web shop, send them as JSON, keyed by visitor.

transform {
  use "spEnrichedFilter" {
    atomic_field  = "app_id"
    regex         = "^acme-web$"
    filter_action = "keep"
  }

  use "spEnrichedFilterContext" {
    context_full_name = "contexts_com_snowplowanalytics_snowplow_ua_parser_context_1"
    custom_field_path = "useragentFamily"
    regex             = "(?i)bot|spider"
    filter_action     = "drop"
  }

  use "spEnrichedFilterUnstructEvent" {
    unstruct_event_name = "cart_change"
    custom_field_path   = "items[0].sku"
    regex               = "^sku-test"
    filter_action       = "drop"
  }

  use "spEnrichedSetPk" {
    atomic_field = "domain_userid"
  }

  use "spEnrichedToJson" {}
}
