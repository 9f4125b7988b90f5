# What the three nodes of the soak have in common: the store, their limits, and the queues.

admin {
  address = "127.0.0.1:${env.ADMIN_PORT}"
}

memory_limit_bytes = 268435456

store {
  use "postgres" {
    dsn                 = env.STORE_DSN
    process_name        = env.NODE
    partitions          = 8
    spread              = 4
    lease_seconds       = 3
    segment_bytes       = 16777216
    segment_age_seconds = 60
  }
}

# Who fills these two does not read them.
queue "events" {
  ordered = true
}
queue "deliveries" {
  ordered = true
}
queue "landing" {}
queue "orders" {}
