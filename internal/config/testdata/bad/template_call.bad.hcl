transform {
  use "js" {
    script = "function main(x) { return `${JSON.stringify(x)}` }"
  }
}
