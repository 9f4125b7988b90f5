log_level = "debug"
ordered   = true
log_level = "info"
