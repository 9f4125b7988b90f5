transform {
  use "spEnrichedFilter" {
    atomic_field  = "app_id"
    regex         = "\d+"
    filter_action = "keep"
  }
}
