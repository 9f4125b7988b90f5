source {
  use "stdin" {
    concurrent_writes = 15
  }
}
