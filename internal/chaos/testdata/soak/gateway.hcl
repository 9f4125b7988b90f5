# The node that takes events, and works on none.

pipeline "gateway" {
  source {
    use "gateway" {
      workspace_config = env.WORKSPACE_CONFIG
      address          = "127.0.0.1:${env.GATEWAY_PORT}"
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
  failure_target {
    use "file" {
      path               = "${env.OUT}/failed/gateway.jsonl"
      create_directories = true
    }
  }
}
