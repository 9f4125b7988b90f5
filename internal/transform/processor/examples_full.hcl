transform {
  use "decompress" {
    compression_format = "zstd"
    max_bytes          = 1048576
  }

  # A JSON object of each log event, not only its message.
  use "cloudWatchLogs" {
    extract = "event"
  }

  # Firehose has the delimiter in base64.
  use "deaggregate" {
    sub_record_type = "DELIMITED"
    delimiter       = "####"
  }
}
