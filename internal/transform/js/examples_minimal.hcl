source {
  use "stdin" {}
}

transform {
  use "js" {
    script_path = "script.js"
  }
}

target {
  use "stdout" {}
}
