source {
  use "sqs" {
    queue_name          = "events"
    region              = "eu-west-1"
    custom_aws_edpoint  = "http://localhost:4566"
    custom_aws_endpoint = "http://localhost:4567"
  }
}
