"log_level" = "debug"
