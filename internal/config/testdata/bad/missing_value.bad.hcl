ordered =
log_level = "debug"
