function "Nothing" {}

function "Both" {
  script = "function main(x) { return x }"
  lambda {
    command     = []
    concurrency = 0
    timeout_ms  = 0
  }
}

function "Twice" {
  script      = "function main(x) { return x }"
  script_path = "main.js"
  timeout_sec = 0
}

function "Put" {
  env = { STAGE = "test" }
  target {
    use "stdout" {}
  }
}

function "Put" {
  target {
    use "stdout" {}
  }
}
