log_level = “debug”
