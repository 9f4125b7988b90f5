# Orders are processed without blocking: a failing order never holds up the others, and no
# order is lost.
#
#   weir run examples/orders
#
# Three orders go onto the stream, from orders.jsonl or the file that ORDERS names. The machine
# takes each through orders.asl.json; see its states there. In the end
#
#   valid/12345.json   is the order from GB
#   error/12346.json   is the order from FR, with the error that CheckCountry expects
#   orphan/12347.json  is the order that makes CheckCountry panic: it was tried three times,
#                      put back to the stream, and given up after MAX_ATTEMPTS (3)
#
# A record that is no order, because it is no object or has no id, is an orphan too: with the
# name of its execution as its id, and whole in the field record. Only what is no JSON at all
# goes to failed.jsonl.
#
# The Catcher puts an order back in the same transaction as the step of its execution: exactly
# once. The other putters write a file at least once; the file has the order's id, so that
# writing it twice changes nothing. Kill the process at any time and start it again: every
# execution goes on at its last step.
#
# DRAIN=true empties the stream: an order that failed and came back is not tried again but put
# into orphan. OUT moves the folders and the store. Stop with Ctrl-C: executions that wait go
# on at the next start. `weir queue show machine/orders` lists what waits to be started.

store {
  use "embedded" {
    path = "${env("OUT") != "" ? env("OUT") : "."}/store"
  }
}

# The stream; examples/kinesis-orders has it in Kinesis.
queue "stream" {}

pipeline "orders" {
  source {
    use "file" {
      path          = env("ORDERS") != "" ? env("ORDERS") : "orders.jsonl"
      position_file = "${env("OUT") != "" ? env("OUT") : "."}/orders.position"
    }
  }

  target {
    use "queue" {
      name = "stream"
    }
  }
}

# A record of the stream is acknowledged when its execution is durably started. The pipeline
# waits for no execution, so it blocks only when none can be started.
pipeline "invoker" {
  source {
    use "queue" {
      name = "stream"
    }
  }

  target {
    use "machine" {
      name = "orders"
    }
  }

  # What is no JSON.
  failure_target {
    use "file" {
      path = "${env("OUT") != "" ? env("OUT") : "."}/failed.jsonl"
    }
  }
}

machine "orders" {
  definition = "orders.asl.json"
}

function "Admit" {
  script_path = "admit.js"
  env = {
    MAX_ATTEMPTS = env("MAX_ATTEMPTS") != "" ? env("MAX_ATTEMPTS") : "3"
    DRAIN        = env("DRAIN")
  }
}

function "CheckCountry" {
  script_path = "check_country.js"
}

function "Catcher" {
  script_path = "catcher.js"

  target {
    use "queue" {
      name = "stream"
    }
  }
}

function "ValidOrderPutter" {
  target {
    use "directory" {
      path       = "${env("OUT") != "" ? env("OUT") : "."}/valid"
      name_field = "id"
    }
  }
}

function "ErrorOrderPutter" {
  target {
    use "directory" {
      path       = "${env("OUT") != "" ? env("OUT") : "."}/error"
      name_field = "id"
    }
  }
}

function "OrphanOrderPutter" {
  target {
    use "directory" {
      path       = "${env("OUT") != "" ? env("OUT") : "."}/orphan"
      name_field = "id"
    }
  }
}
