log_level "debug"
