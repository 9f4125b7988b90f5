source {
  use "sqs" {
    queue_name = "events"
  }
}
