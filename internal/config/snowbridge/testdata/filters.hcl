transform {
  # web only
  use "spEnrichedFilter" {
    atomic_field  = "platform"
    regex         = "web|mob"
    filter_action = "keep"
  }
  use "spEnrichedFilterContext" {
    context_full_name = "contexts_com_acme_page_1"
    custom_field_path = "labels[0].name"
    regex             = "^home$"
    filter_action     = "keep"
  }
  use "spEnrichedFilterUnstructEvent" {
    unstruct_event_name = "link_click"
    custom_field_path   = "target"
    regex               = "^https://acme"
    filter_action       = "drop"
  }
}
