source {
  use "file" {
    path = "/var/log/app/*.log"
  }
}
