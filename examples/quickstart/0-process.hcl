# Four jobs in one process. Read on in the order of the numbers: each file is one job, and
# 5-traffic.hcl makes the events that they work on.
#
# OUT and the ports come from the environment; run.sh sets them.

# Where the queues are kept. What a queue has accepted survives a crash of the process.
store {
  use "embedded" {
    path = "${env.OUT}/store"
  }
}

# /metrics, /healthz and /readyz.
admin {
  address = "127.0.0.1:${env.ADMIN_PORT}"
}

# Statistics of each pipeline are logged once an hour; the live line shows the sum.
stats_receiver {
  buffer_sec = 3600
}
