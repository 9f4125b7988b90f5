transform {
  use "spEnrichedFilter" {
    atomic_field = "page_urlpath"
    regex        = "^((?!/internal/).)*$"
  }
}
transform {
  use "spEnrichedFilter" {
    atomic_field  = "app_id"
    regex         = "(\\w)\\1"
    filter_action = "drop"
  }
}
