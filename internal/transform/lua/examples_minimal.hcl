source {
  use "stdin" {}
}

transform {
  use "lua" {
    script_path = "script.lua"
  }
}

target {
  use "stdout" {}
}
