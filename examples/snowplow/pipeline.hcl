# Snowplow enriched events: web events become JSON, the others are dropped.
#
#   weir run examples/snowplow/pipeline.hcl < examples/snowplow/data/enriched.tsv
#
# This is a config file of Snowbridge 5, and runs there as it is.

source {
  use "stdin" {}
}

transform {
  use "spEnrichedFilter" {
    atomic_field  = "platform"
    regex         = "^web$"
    filter_action = "keep"
  }

  use "spEnrichedSetPk" {
    atomic_field = "app_id"
  }

  use "spEnrichedToJson" {}
}

target {
  use "stdout" {
    data_only_output = true
  }
}
