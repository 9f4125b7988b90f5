target {
  use "file" {
    # A relative path means from the directory of this file.
    path = "/var/lib/weir/events.jsonl"

    # A message is delivered when it is on the disk.
    sync = true

    # Keep what the file has.
    append = true

    # Make the directories on the way to it.
    create_directories = true

    # Messages may hold line ends: nobody reads the file line by line.
    allow_newlines = true

    batching {
      max_batch_messages     = 1000
      max_batch_bytes        = 4194304
      max_message_bytes      = 1048576
      max_concurrent_batches = 2
      flush_period_millis    = 100
    }
  }
}
