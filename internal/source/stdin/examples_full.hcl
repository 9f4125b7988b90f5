source {
  use "stdin" {
    max_line_bytes     = 1048576
    max_batch_messages = 500
  }
}
