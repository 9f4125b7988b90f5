transform {
  use "js" {
    source_b64  = "eA=="
    script_path = "x.js"
  }
}
