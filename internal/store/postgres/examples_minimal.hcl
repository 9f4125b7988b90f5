store {
  use "postgres" {
    dsn = env.WEIR_STORE_DSN
  }
}
