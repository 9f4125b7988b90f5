target {
  use "file" {
    path = "/var/lib/weir/events.jsonl"
  }
}
