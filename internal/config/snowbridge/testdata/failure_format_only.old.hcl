failure_target { format = "event_forwarding" }
failure_parser {}
