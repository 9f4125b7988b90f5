tracing {
  endpoint = "https://collector.example:4318/base"
  headers = {
    Authorization = env.BROKERS
  }
  sample_ratio = 0.25
  service_name = "weir-eu"
  attributes = {
    "deployment.environment.name" = "test"
  }
}

metrics {
  otlp {
    endpoint = "http://collector.example:4318"
    headers = {
      Authorization = env.BROKERS
    }
    interval_sec = 15
    service_name = "weir-eu"
    attributes = {
      "deployment.environment.name" = "test"
    }
  }
}
