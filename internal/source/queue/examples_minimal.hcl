queue "events" {}

source {
  use "queue" {
    name = "events"
  }
}
