source {
  use "eventhub" {
    namespace = "acme"
    name      = "events"
  }
}
