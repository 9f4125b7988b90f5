log_level  = "warn"
log_format = "xml"

failure_parser {
  format = "snowplough"
}
