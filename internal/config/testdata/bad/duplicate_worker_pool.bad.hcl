transform {
  worker_pool = 1
}

transform {
  worker_pool = 2
}
