target {
  use "directory" {
    path = "/var/lib/weir/orders"
  }
}
