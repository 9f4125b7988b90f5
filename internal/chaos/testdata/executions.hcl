# A machine whose every kind of step is under way when the process is killed: a task that
# writes a line, a Lambda handler, a timer, another line, a file, and a put into a queue.

admin {
  address = "127.0.0.1:${env.ADMIN_PORT}"
}

store {
  use "embedded" {
    path = "${env.OUT}/store"
  }
}

queue "in" {}

queue "ended" {}

# Requests are answered when their orders are in the queue; each starts exactly one execution.
pipeline "feed" {
  source {
    use "http" {
      url = "127.0.0.1:${env.FEED_PORT}"
    }
  }
  target {
    use "queue" {
      name = "in"
    }
  }
  failure_target {
    use "file" {
      path = "${env.OUT}/failed.jsonl"
    }
  }
}

pipeline "start" {
  source {
    use "queue" {
      name = "in"
    }
  }
  target {
    use "machine" {
      name = "work"
    }
  }
  failure_target {
    use "file" {
      path = "${env.OUT}/failed.jsonl"
    }
  }
}

# Requests are answered when the executions of their orders have ended.
pipeline "waiting" {
  source {
    use "http" {
      url = "127.0.0.1:${env.WAIT_PORT}"
    }
  }
  target {
    use "machine" {
      name = "work"
      wait = true
    }
  }
  failure_target {
    use "file" {
      path = "${env.OUT}/failed.jsonl"
    }
  }
}

machine "work" {
  definition = "executions.asl.json"
}

function "Line" {
  target {
    use "file" {
      path = "${env.OUT}/calls.jsonl"
    }
  }
}

function "Handler" {
  lambda {
    command         = [env.HANDLER]
    concurrency     = 2
    timeout_ms      = 120000
    init_timeout_ms = 120000
  }
}

function "Done" {
  target {
    use "directory" {
      path       = "${env.OUT}/done"
      name_field = "id"
    }
  }
}

function "Ended" {
  target {
    use "queue" {
      name = "ended"
    }
  }
}
