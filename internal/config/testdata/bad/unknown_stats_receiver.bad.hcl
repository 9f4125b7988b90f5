stats_receiver {
  use "prometheus" {}
}
