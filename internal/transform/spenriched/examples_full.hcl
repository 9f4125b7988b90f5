# Every option of the transforms of enriched events.

source {
  use "stdin" {}
}

transform {
  use "spEnrichedFilter" {
    # Numbers, booleans and timestamps are matched as text.
    atomic_field  = "platform"
    regex         = "^(web|mob)$"
    filter_action = "keep"
  }

  use "spEnrichedFilterContext" {
    # The name the context has in the JSON form of the event.
    context_full_name = "contexts_com_example_shop_product_entity_1"
    custom_field_path = "tags[0]"
    regex             = "^home$"
    filter_action     = "keep"
  }

  use "spEnrichedFilterUnstructEvent" {
    unstruct_event_name          = "cart_change"
    unstruct_event_version_regex = "^1-"
    custom_field_path            = "action"
    regex                        = "^remove$"
    filter_action                = "drop"
  }

  use "spEnrichedToJson" {}

  # The event stays with the message: the key can be chosen after it became JSON.
  use "spEnrichedSetPk" {
    atomic_field = "event_id"
  }
}

target {
  use "stdout" {}
}
