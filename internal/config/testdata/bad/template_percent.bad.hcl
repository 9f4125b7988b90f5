transform {
  use "js" {
    script = <<EOT
const f = "100%{x}"
EOT
  }
}
