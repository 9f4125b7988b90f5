source {
  use "stdin" {}
}

transform {
  use "js" {
    # Path of the script, or the script itself; the path wins.
    script_path = "script.js"
    script      = "function main(input) { return input }"

    # Longest time for one message.
    timeout_sec = 10

    # Data as an object: of a JSON payload, or of a Snowplow enriched event.
    json_mode     = true
    snowplow_mode = true

    # Leave empty values out of the result.
    remove_nulls = true

    # For the hash function.
    hash_salt_secret = "09a2d6b3ecd943aa8512df1f"
    hash_version     = 6

    # Keep the script's variables between messages.
    stateful = true

    # By how much the heap may grow while the script runs.
    memory_limit_mb = 64
  }
}

target {
  use "stdout" {}
}
