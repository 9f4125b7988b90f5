transform {
  use "js" {
    script = <<EOT
function main(input) {
  input.Data = `hello ${name} and ${name.first}`
  return input
}
EOT
  }
}
