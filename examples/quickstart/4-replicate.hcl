# Replicate a stream: what comes in goes out, byte for byte. The queue between lets the one
# side go on while the other is down.
#
#   [queue stream] -> file

queue "stream" {}

pipeline "replicate" {
  source {
    use "queue" {
      name = "stream"
    }
  }
  target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/files/replica.log"
      create_directories = true
    }
  }
  failure_target {
    use "file" {
      path               = "${env("OUT", "quickstart-data")}/failed/replicate.jsonl"
      create_directories = true
    }
  }
}
