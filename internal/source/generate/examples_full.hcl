source {
  use "generate" {
    kind  = "events"
    rate  = 2.5
    count = 1000000
    seed  = 7

    # Times are made up too: the first message is of this instant.
    start = "2026-11-20T09:00:00Z"

    # A restart continues after what was delivered.
    position_file      = "/var/lib/weir/events.position"
    max_batch_messages = 100
  }
}
