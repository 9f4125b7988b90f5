machine "orders" {
  definition = "orders.asl.json"
}

target {
  use "machine" {
    name = "orders"
    # Deliver a message only when its execution has succeeded.
    wait = true
    batching {
      max_batch_messages     = 100
      max_batch_bytes        = 1048576
      max_message_bytes      = 262144
      max_concurrent_batches = 16
      flush_period_millis    = 100
    }
  }
}
