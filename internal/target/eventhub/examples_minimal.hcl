target {
  use "eventhub" {
    namespace = "acme"
    name      = "events"
  }
}
