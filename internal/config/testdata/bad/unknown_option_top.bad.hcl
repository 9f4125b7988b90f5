loglevel = "debug"
