# Orders from a Kinesis stream are processed without blocking it, and one that fails unexpectedly
# is put back into the stream. README.md goes through it, step by step.

# What waits between two steps of an execution, and how far the stream was read. OUT moves it and
# the folders of orders.
store {
  use "embedded" {
    path = "${env("OUT") != "" ? env("OUT") : "."}/store"
  }
}

# A record counts as read when its execution is durably started. The pipeline waits for no
# execution, so it blocks only when none can be started.
pipeline "invoker" {
  source {
    use "kinesis" {
      stream_name = "pipeline_spike_stream"
      region      = env("AWS_DEFAULT_REGION") != "" ? env("AWS_DEFAULT_REGION") : "eu-west-1"
      app_name    = "pipeline_spike"
      leases      = "store"
    }
  }

  # The first target whose condition holds gets the order.
  routing = "first"

  # One that was put back as often as it may be waits for somebody to look at it.
  target {
    when = "(event.attempt ?? 0) >= 3"

    use "directory" {
      path       = "${env("OUT") != "" ? env("OUT") : "."}/orphan"
      name_field = "id"
    }
  }

  target {
    use "machine" {
      name = "pipeline_spike"
    }
  }

  # What is no JSON and cannot be an order.
  failure_target {
    use "file" {
      path               = "${env("OUT") != "" ? env("OUT") : "."}/failed.jsonl"
      create_directories = true
    }
  }
}

machine "pipeline_spike" {
  definition = "orders.asl.json"
}

function "pipeline_spike_check_country" {
  script_path = "../orders/check_country.js"
}

function "pipeline_spike_valid_order_putter" {
  target {
    use "directory" {
      path       = "${env("OUT") != "" ? env("OUT") : "."}/valid"
      name_field = "id"
    }
  }
}

function "pipeline_spike_error_order_putter" {
  target {
    use "directory" {
      path       = "${env("OUT") != "" ? env("OUT") : "."}/error"
      name_field = "id"
    }
  }
}

# The order with one more attempt goes back into the stream, at least once.
function "pipeline_spike_catcher" {
  script_path = "../orders/catcher.js"

  target {
    use "kinesis" {
      stream_name = "pipeline_spike_stream"
      region      = env("AWS_DEFAULT_REGION") != "" ? env("AWS_DEFAULT_REGION") : "eu-west-1"
    }
  }
}
