target {
  use "http" {
    url                = "https://x/"
    byte_limit         = 5
    message_byte_limit = 6
  }
}
