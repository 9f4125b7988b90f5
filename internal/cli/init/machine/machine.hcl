# Work through a state machine for each event: a step that fails is tried again later, and
# an execution goes on where it was after a crash.
#
#   HTTP -> machine orders -> valid | error

# The answer comes when the execution is durably started.
pipeline "orders" {
  source {
    use "http" {
      url = "127.0.0.1:8080"
    }
  }
  target {
    use "machine" {
      name = "orders"
    }
  }
  failure_target {
    use "file" {
      path = "failed.jsonl"
    }
  }
}

# The states, in Amazon's States Language.
machine "orders" {
  definition = "orders.asl.json"
}

# What a state calls by its name: a script ...
function "Check" {
  script = <<EOT
    function main(order) {
      if (!order.id) throw new Error("an order has an id");
      order.total = order.items.reduce((sum, i) => sum + i.price * i.count, 0);
      return order;
    }
  EOT
}

# ... or a target, here a file for each order.
function "Accept" {
  target {
    use "directory" {
      path       = "valid"
      name_field = "id"
    }
  }
}

function "Refuse" {
  target {
    use "directory" {
      path = "error"
    }
  }
}

# /metrics, /healthz and /readyz; weir queue asks it too, while this runs.
admin {
  address = "127.0.0.1:8081"
}
