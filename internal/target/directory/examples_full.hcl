target {
  use "directory" {
    # A relative path means from the directory of this file.
    path = "/var/lib/weir/orders"

    # {"order":{"id":"12345"}} becomes 12345.json.
    name_field = "order.id"
    extension  = ".json"

    # Make the directory, and those on the way to it.
    create_directories = true

    # A message is delivered when it is on the disk.
    sync = true

    batching {
      max_batch_messages     = 50
      max_batch_bytes        = 4194304
      max_message_bytes      = 1048576
      max_concurrent_batches = 4
      flush_period_millis    = 100
    }
  }
}
