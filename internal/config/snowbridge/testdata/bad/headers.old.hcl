target {
  use "http" {
    url     = "https://x/"
    headers = "Authorization: Bearer s3cret-token"
  }
}
failure_target {
  use "http" {
    url     = "https://x/"
    headers = "{\"X-Retries\":3,\"X-Token\":\"s3cret-token\"}"
  }
}
