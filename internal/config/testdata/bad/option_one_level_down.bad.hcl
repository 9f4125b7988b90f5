worker_pool = 4
