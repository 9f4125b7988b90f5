transform {
  use "spEnrichedFilter" {
    atomic_field = "platform"
    regex        = "web"
  }
}

target {
  use "http" { url = "https://collector.acme.internal/one-by-one" }
}

failure_target {
  use "http" {
    url        = "https://collector.acme.internal/bad"
    byte_limit = env.SIZE
  }
}
