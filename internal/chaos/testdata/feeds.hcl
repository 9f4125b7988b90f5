# What feeds the jobs of the quickstart under test, in the place of its 5-traffic.hcl: each
# request is answered once its lines are in the queue.

pipeline "feed-orders" {
  source {
    use "http" {
      url = "127.0.0.1:${env.ORDERS_PORT}"
    }
  }
  target {
    use "queue" {
      name = "orders"
    }
  }
  failure_target {
    use "file" {
      path               = "${env.OUT}/failed/feeds.jsonl"
      create_directories = true
    }
  }
}

pipeline "feed-lessons" {
  source {
    use "http" {
      url = "127.0.0.1:${env.LESSONS_PORT}"
    }
  }
  target {
    use "queue" {
      name = "lessons"
    }
  }
  failure_target {
    use "file" {
      path               = "${env.OUT}/failed/feeds.jsonl"
      create_directories = true
    }
  }
}

pipeline "feed-stream" {
  source {
    use "http" {
      url = "127.0.0.1:${env.STREAM_PORT}"
    }
  }
  target {
    use "queue" {
      name = "stream"
    }
  }
  failure_target {
    use "file" {
      path               = "${env.OUT}/failed/feeds.jsonl"
      create_directories = true
    }
  }
}
