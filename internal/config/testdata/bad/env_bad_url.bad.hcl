monitoring {
  webhook {
    endpoint = env.URL
  }
}
