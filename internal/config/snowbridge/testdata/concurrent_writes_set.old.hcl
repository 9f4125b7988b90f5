source {
  use "stdin" { concurrent_writes = 50 }
}

transform {
  use "base64Decode" {}
  worker_pool = 3
}

target {
  use "pubsub" {
    project_id = "acme"
    topic_name = "orders"
    batching { max_concurrent_batches = 2 }
  }
}
