tracing {
  endpoint     = "https://user:hunter2@collector:4318"
  sample_ratio = 1.5
  headers = {
    "a b"         = "x"
    Authorization = "Bearer hunter3\n"
  }
  attributes = {
    "" = "x"
  }
}

metrics {
  otlp {
    endpoint     = "collector:4318"
    interval_sec = 0
  }
}
