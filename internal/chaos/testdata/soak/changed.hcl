# What a node has more once its config was changed: a queue that the others do not know, and who reads it.

queue "later" {}

pipeline "later" {
  source {
    use "queue" {
      name = "later"
    }
  }
  target {
    use "file" {
      path               = "${env.OUT}/later-${env.NODE}.jsonl"
      create_directories = true
    }
  }
}
