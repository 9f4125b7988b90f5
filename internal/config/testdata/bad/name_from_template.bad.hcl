target {
  use "${env.TARGET}" {
  }
}
