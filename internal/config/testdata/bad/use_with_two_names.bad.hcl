target {
  use "kafka" "main" {
  }
}
