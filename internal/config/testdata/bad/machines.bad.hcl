queue "stream" {}

machine "orders" {
  definition        = ""
  workers           = 0
  max_payload_bytes = 99999999
  lease_seconds     = 1
}

machine "orders" {
  definition = "orders.asl.json"
}

machine "two words" {
  definition = "orders.asl.json"
}
