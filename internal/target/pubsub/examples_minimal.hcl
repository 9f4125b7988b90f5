target {
  use "pubsub" {
    project_id = "my-project"
    topic_name = "events"
  }
}
