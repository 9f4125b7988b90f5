source {
  use "stdin" {}
}

transform {
  use "jqFilter" {
    jq_command = ".app_id == \"shop\""

    # Longest time for one message.
    timeout_ms = 250

    # By how many MiB the heap may grow for one message.
    memory_limit_mb = 64

    # The program is given a Snowplow enriched event.
    snowplow_mode = true

    # The plain digest instead of PBKDF2.
    hash_version = 6
  }

  # For !{partitionKeyFromQuery:shop} and !{partitionKeyFromQuery:day} in the prefix of the target.
  use "jqPartitionKeys" {
    jq_command = "{shop: .app_id, day: (.collector_tstamp | .[0:10])}"

    # Longest time for one message.
    timeout_ms = 250

    # By how many MiB the heap may grow for one message.
    memory_limit_mb = 64

    # The program is given a Snowplow enriched event.
    snowplow_mode = true

    # The plain digest instead of PBKDF2.
    hash_version = 6
  }

  use "jq" {
    jq_command = "{id: .event_id, user: (.user_id | hash(\"sha256\"; \"salt\")), at: (.collector_tstamp | epochMillis)}"

    # Longest time for one message.
    timeout_ms = 250

    # By how many MiB the heap may grow for one message.
    memory_limit_mb = 64

    # The program is given a Snowplow enriched event.
    snowplow_mode = true

    # The plain digest instead of PBKDF2.
    hash_version = 6
  }
}

target {
  use "stdout" {}
}
