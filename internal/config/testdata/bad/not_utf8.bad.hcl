log_level = "café"
