monitoring {
  webhook {
  }
}

sentry {}

admin {}
