transform {
  # web only
  use "spEnrichedFilter" {
    description   = "drops server-side events" # see wiki
    atomic_field  = "platform"
    regex         = "web|mob"
    regex_timeout = 10
  }
}

transform {
  use "spEnrichedFilterContext" {
    context_full_name = "contexts_com_acme_page_1"
    custom_field_path = "labels[0].name"
    regex             = "^home$"

    # milliseconds
    regex_timeout = 5
  }
}

transform {
  use "spEnrichedFilterUnstructEvent" {
    unstruct_event_name = "link_click"
    custom_field_path   = "target"
    regex               = "^https://acme"
    filter_action       = "drop"
  }
}
