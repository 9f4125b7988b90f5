sentry {
  dsn  = "https://abc@sentry.example/1"
  tags = { team = "data" }
}
