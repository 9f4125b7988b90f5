source {
  use "stdin" {}
}

transform {
  use "lua" {
    # Path of the script, the script itself, or the script in base64; the path wins.
    script_path = "script.lua"
    script      = "function main(input) return input end"
    source_b64  = "ZnVuY3Rpb24gbWFpbihpbnB1dCkgcmV0dXJuIGlucHV0IGVuZA=="

    # Longest time for one message.
    timeout_sec = 10

    # No standard libraries.
    sandbox = true

    # The script is given a Snowplow enriched event as a table.
    snowplow_mode = true

    # By how much the heap may grow while the script runs.
    memory_limit_mb = 64
  }
}

target {
  use "stdout" {}
}
