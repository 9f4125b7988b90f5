transform {
  use "js" {
    script = <<EOT
function main(x) { return x }
  }
}
