source {
  use "pubsub" {
    project_id      = "my-project"
    subscription_id = "events-weir"
  }
}
