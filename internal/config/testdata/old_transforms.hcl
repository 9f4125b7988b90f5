transform {
  use "spEnrichedFilter" {
    atomic_field  = "app_id"
    regex         = "x"
    filter_action = "keep"
  }
}

target {
  use "silent" {}
}

transform {
  use "base64Decode" {}
}

transform {
  use "js" {
    script_path = "x.js"
  }
  worker_pool = 4
}

pipeline "old" {
  source {
    use "http" {}
  }
  transform {
    use "base64Decode" {}
  }
  transform {
    use "base64Decode" {}
  }
}
