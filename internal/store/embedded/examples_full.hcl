store {
  use "embedded" {
    path                = "/var/lib/weir"
    max_bytes           = 107374182400
    min_free_bytes      = 5368709120
    dead_retention_days = 30
  }
}
