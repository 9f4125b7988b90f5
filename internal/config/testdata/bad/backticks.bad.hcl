transform {
  use "js" {
    script = `function main(x) { return x }`
  }
}
