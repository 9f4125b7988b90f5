failure_target {
}
failure_parser {
  format = "event_forwarding"
}
