target {
  use "http" {
    url     = "http://joe:hunter2secret@example.com"
    headers = { "X-Api-Token" = "hunter2secret", accept = "nothing" }
  }
}
