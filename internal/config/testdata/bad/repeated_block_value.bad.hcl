target {
  use "http" {
    url = "http://x"
    response_rules {
      rule {
        type = "invalid"
      }
      rule {
        type = "fatality"
      }
    }
  }
}

failure_target {
  use "http" {
    url = "http://x"
    response_rules {
      rule {
        type = "x"
      }
    }
  }
}
