target {
  use "object" {
    path = "s3://my-events/raw"
  }
}
