# Process orders without blocking: a failing order never holds up the others, and no order is
# lost.
#
#   [queue orders] -> machine -> valid | error | orphan, or back into the queue
#
# Each order becomes an execution of a state machine, whose states are in
# ../orders/orders.asl.json. A step that fails is tried again later, without a thread that
# waits for it; `weir queue show machine/orders` lists what waits.

queue "orders" {}

# A message leaves the queue when its execution is durably started.
pipeline "orders" {
  source {
    use "queue" {
      name = "orders"
    }
  }
  target {
    use "machine" {
      name = "orders"
    }
  }
  # What is no JSON and cannot be an order.
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/orders.jsonl"
      create_directories = true
    }
  }
}

machine "orders" {
  definition = "../orders/orders.asl.json"
}

# The work of the states. Three scripts decide about an order ...
function "Admit" {
  script_path = "../orders/admit.js"
  env = {
    MAX_ATTEMPTS = "3"
    DRAIN        = "false"
  }
}

function "CheckCountry" {
  script_path = "../orders/check_country.js"
}

# ... this one puts it back to be tried again, exactly once ...
function "Catcher" {
  script_path = "../orders/catcher.js"
  target {
    use "queue" {
      name = "orders"
    }
  }
}

# ... and these write it into a file that has its id for a name.
function "ValidOrderPutter" {
  target {
    use "directory" {
      path       = "${env("OUT", "quickstart-data")}/orders/valid"
      name_field = "id"
    }
  }
}

function "ErrorOrderPutter" {
  target {
    use "directory" {
      path       = "${env("OUT", "quickstart-data")}/orders/error"
      name_field = "id"
    }
  }
}

function "OrphanOrderPutter" {
  target {
    use "directory" {
      path       = "${env("OUT", "quickstart-data")}/orders/orphan"
      name_field = "id"
    }
  }
}
