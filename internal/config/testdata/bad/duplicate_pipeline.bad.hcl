pipeline "a" {
  source {
    use "http" {
    }
  }
}

pipeline "a" {
  source {
    use "http" {
    }
  }
}
