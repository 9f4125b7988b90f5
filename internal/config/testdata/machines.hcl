queue "stream" {}

machine "orders" {
  definition         = "orders.asl.json"
  workers            = 8
  in_flight          = 100
  keep_ended_seconds = 3600
}

function "CheckCountry" {
  script_path = "check_country.js"
  env         = { COUNTRIES = "GB" }
}

function "ValidOrderPutter" {
  target {
    use "stdout" {}
  }
}

function "Legacy" {
  lambda {
    command     = ["./bootstrap", "-v"]
    env         = { TABLE = "orders" }
    concurrency = 2
  }
}
