machine "typo" {
  definitoin = "orders.asl.json"
}

function "Put" {
  target {
    use "kafak" {}
  }
}
