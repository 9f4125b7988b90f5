source {
  use "kinesis" {
    stream_name = "events"
    region      = "eu-central-1"
    app_name    = "weir"
  }
}
