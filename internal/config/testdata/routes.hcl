# Several targets: a copy of orders to each of two, the rest to one; names where none is given.
target {
  when = "event.type == 'order'"
  use "stdout" {}
}

target {
  when = "event.type == 'order'"
  name = "copy"
  use "stdout" {}
}

target {
  when = "event.type != 'order'"
  use "stdout" {}
}

pipeline "first" {
  routing = "first"
  source {
    use "http" {}
  }
  target {
    when = "destination == \"a\""
    use "silent" {}
  }
  target {
    use "stdout" {}
  }
}
