ordered = env.BROKERS ? true : false
