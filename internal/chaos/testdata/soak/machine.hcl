# The machine, whose executions the processor and the router share out.

pipeline "start" {
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
  failure_target {
    use "file" {
      path               = "${env.OUT}/failed/${env.NODE}.jsonl"
      create_directories = true
    }
  }
}

machine "orders" {
  definition = "machine.asl.json"
}

function "Put" {
  target {
    use "http" {
      url         = env.MACHINE_URL
      body_format = "raw"
    }
  }
}
