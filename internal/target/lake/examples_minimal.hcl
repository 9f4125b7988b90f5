target {
  use "lake" {
    path = "lake/events"
  }
}
