source {
  use "stdin" {}
}

transform {
  use "jqFilter" {
    jq_command = ".app_id == \"shop\""
  }

  use "jq" {
    jq_command = "."
  }
}

target {
  use "stdout" {}
}
