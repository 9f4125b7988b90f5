target {
  use "sqs" {
    queue_name = "events"
  }
}
