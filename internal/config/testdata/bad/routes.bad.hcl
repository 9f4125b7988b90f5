routing = "frist"

target {
  name = "not a name"
  use "stdout" {}
}

pipeline "conditions" {
  source {
    use "http" {}
  }
  target {
    when = "even.type == 'order'"
    use "silent" {}
  }
  target {
    when = "event.type = 'order'"
    use "silent" {}
  }
  target {
    when = ""
    use "silent" {}
  }
  target {
    when = "size"
    use "silent" {}
  }
}

pipeline "unreachable" {
  routing = "first"
  source {
    use "http" {}
  }
  target {
    use "silent" {}
  }
  target {
    name = "silent"
    use "stdout" {}
  }
}
