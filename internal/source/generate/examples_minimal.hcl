source {
  use "generate" {
    kind = "lessons"
  }
}
