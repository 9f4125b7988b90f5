queue "events" {}

target {
  use "queue" {
    name = "events"
  }
}
