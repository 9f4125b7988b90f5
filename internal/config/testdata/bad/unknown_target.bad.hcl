target {
  use "elasticsearch" {
  }
}

failure_target {
  use "https" {
  }
}

filter_target {
  use "Silent" {}
}
