queue "events" {}

source {
  use "queue" {
    name               = "events"
    isolation          = "destination"
    ordered            = true
    max_isolated       = 16
    max_batch_messages = 500
    max_batch_bytes    = 1048576
    lease_seconds      = 30
    stop_when_empty    = true
  }
}
