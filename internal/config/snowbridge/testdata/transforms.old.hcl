# First, what is kept.
transform {
  use "spEnrichedFilter" {
    atomic_field  = "app_id"
    regex         = "^shop"
    filter_action = "keep"
  }
}

# Then its key: the visitor.
transform { # two steps
  use "spEnrichedSetPk" {
    atomic_field = "domain_userid"
  }
}

target {
  use "stdout" {}
}

transform {

  # Last, the form that the loader reads.
  use "spEnrichedToJson" {
  }
  worker_pool = 4
} # done

pipeline "other" {
  source {
    use "http" {
      url = "127.0.0.1:0"
    }
  }
  transform {
    use "base64Decode" {}
  }
  transform {
    use "base64Decode" {}
  }
}
