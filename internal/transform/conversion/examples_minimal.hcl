transform {
  use "formatConversion" {
    columns = { id = "bigint", at = "timestamp" }
  }
}
