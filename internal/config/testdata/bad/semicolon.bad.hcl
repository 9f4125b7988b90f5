log_level = "debug";
