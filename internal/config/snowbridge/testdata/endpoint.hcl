source {
  use "kinesis" {
    stream_name = "events"
    region      = "eu-west-1"
    app_name    = "weir"
    # where the tests listen
    custom_aws_endpoint = env.TOKEN
  }
}

target {
  use "sqs" {
    queue_name          = "events"
    region              = "eu-west-1"
    custom_aws_endpoint = "http://localhost:4566" # not of AWS
  }
}

failure_target {
  use "kinesis" {
    stream_name         = "failures"
    region              = "eu-west-1"
    custom_aws_endpoint = "http://localhost:4566"
  }
}
