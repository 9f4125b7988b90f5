# Four jobs in one process. Read on in the order of the numbers: each file is one job, and
# 5-traffic.hcl makes the events that they work on.
#
# weir run examples/quickstart runs it as it stands. OUT moves the data, and GATEWAY_PORT,
# ADMIN_PORT and WEBHOOK_PORT the ports; run.sh does the same, and says where to look.

# Where the queues are kept. What a queue has accepted survives a crash of the process.
store {
  use "embedded" {
    path = "${env("OUT", "quickstart-data")}/store"
  }
}

# The console, /metrics, /healthz and /readyz.
admin {
  address = "127.0.0.1:${env("ADMIN_PORT", "8081")}"
  console {}
}
