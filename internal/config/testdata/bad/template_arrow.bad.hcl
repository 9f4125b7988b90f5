transform {
  use "js" {
    script = <<EOT
const f = `${items.map(x => x.id)}`
const g = `${a ?? b}`
EOT
  }
}
