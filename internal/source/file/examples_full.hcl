source {
  use "file" {
    # All files that match, in the order of their names. Compressed ones (gzip, zstd) too.
    path = "/var/log/app/*.log"

    # Keep reading what is appended, through rotation.
    follow = true

    # Continue here after a restart.
    position_file = "/var/lib/weir/app-log.position"

    max_line_bytes     = 1048576
    max_batch_messages = 500
  }
}
