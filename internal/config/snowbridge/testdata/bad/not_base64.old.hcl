transform {
  use "js" {
    source_b64 = "function main(x) { return x }"
  }
}
