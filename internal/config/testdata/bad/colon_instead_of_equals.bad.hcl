log_level: debug
