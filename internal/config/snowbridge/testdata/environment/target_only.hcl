target {
  use "pubsub" {
    project_id = "acme-$${env}"
    topic_name = "events"
  }
}
