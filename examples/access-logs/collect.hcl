# The endpoint: answers a request only once its events are on disk.
pipeline "collect" {
  source {
    use "http" {
      url = "127.0.0.1:8089"
    }
  }

  target {
    use "file" {
      path = "${env("OUT") != "" ? env("OUT") : "."}/events.jsonl"
    }
  }
}
