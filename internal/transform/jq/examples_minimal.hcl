source {
  use "stdin" {}
}

transform {
  use "jqFilter" {
    jq_command = ".app_id == \"shop\""
  }

  use "jqPartitionKeys" {
    jq_command = "{shop: .app_id}"
  }

  use "jq" {
    jq_command = "."
  }
}

target {
  use "stdout" {}
}
