log_level = 'debug'
