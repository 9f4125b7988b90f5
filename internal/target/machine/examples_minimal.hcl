machine "orders" {
  definition = "orders.asl.json"
}

target {
  use "machine" {
    name = "orders"
  }
}
