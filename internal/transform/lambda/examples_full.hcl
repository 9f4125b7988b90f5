transform {
  use "lambda" {
    # A handler in Python; AWS's runtime client calls it.
    command = ["python3", "-m", "awslambdaric", "transform.handler"]
    env = {
      PYTHONPATH = "python"
    }
    function_name   = "transform"
    concurrency     = 2
    timeout_ms      = 60000
    init_timeout_ms = 10000

    # As in Firehose's processor.
    buffer_size_mb    = 1
    number_of_retries = 3
    retry_delay_ms    = 100

    # What the handler is told.
    stream_name = "orders"
    region      = "eu-central-1"
  }
}
