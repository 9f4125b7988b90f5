drain_timeout_ms = env.ZERO
