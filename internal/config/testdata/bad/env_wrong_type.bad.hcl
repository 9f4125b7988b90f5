in_flight {
  messages = env.NOT_A_NUMBER
  bytes    = env("NOT_SET")
}
