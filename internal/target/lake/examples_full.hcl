# Files of up to half a million events: what is in flight must hold that many.
in_flight {
  messages = 1000000
  bytes    = 536870912
}

target {
  use "lake" {
    path         = "s3://my-lake/lessons"
    time_field   = "created_at"
    time_format  = "epoch_s"
    missing_time = "read_time"
    partition_by = ["year", "month", "day"]

    dedup_field   = "event_uuid"
    dedup_max_ids = 5000000
    positions_kept = 1000000

    types = {
      "payload"          = "json"
      "created_datetime" = "timestamp"
      "score"            = "double"
      "price"            = "decimal(12,2)"
      "event_uuid"       = "uuid"
      "tags[]"           = "string"
    }
    # Other fields are kept whole in the column _rest.
    columns = "add"
    misfits = "column"

    buffer_max_events      = 500000
    buffer_max_bytes       = 134217728
    buffer_max_age_seconds = 300
    max_message_bytes      = 262144
    max_concurrent_batches = 3

    max_file_bytes      = 134217728
    max_open_partitions = 64
    max_depth           = 8
    max_columns         = 500

    s3 {
      region      = "eu-central-1"
      role_arn    = "arn:aws:iam::123456789012:role/weir-writer"
      external_id = "lake"

      # Something else that speaks the protocol of S3, with the bucket in the path.
      custom_aws_endpoint = "https://s3.example.com"
      path_style          = true

      server_side_encryption = "aws:kms"
      kms_key_id             = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
      bucket_key             = true
      storage_class          = "STANDARD_IA"

      expected_bucket_owner = "123456789012"
      requester_pays        = true
      checksums             = "when_required"
      part_bytes            = 16777216
    }
  }
}

failure_target {
  use "lake" {
    path = "gs://my-lake/refused"

    # A file of each partition holds 64 MiB, or what has come within five minutes.
    buffer {
      size_mib         = 64
      interval_seconds = 300
    }

    gcs {
      # The default credentials of Google Cloud without it.
      credentials_path = "writer.json"
      endpoint         = "storage.googleapis.com:443"
      billing_project  = "my-project"
      kms_key          = "projects/my-project/locations/eu/keyRings/weir/cryptoKeys/lake"
    }

    # An Iceberg table of the files, in a catalog that PyIceberg, Spark and Trino read.
    partition_by = []
    table {
      name           = "lake.refused"
      snapshots_kept = 100
      postgres {
        dsn     = env.CATALOG_DSN
        catalog = "production"
      }
    }
  }
}

filter_target {
  use "lake" {
    path = "azblob://lake/filtered"

    azblob {
      account     = "myaccount"
      account_key = "a2V5IG9mIHRoZSBzdG9yYWdlIGFjY291bnQ="
      endpoint    = "https://myaccount.privatelink.blob.core.windows.net"
    }

    # Partitioned by hour(created_at).
    time_field = "created_at"
    table {
      name = "lake.filtered"
      sqlite {
        path    = "catalog.db"
        catalog = "laptop"
      }
    }
  }
}

# An Iceberg table that Athena reads from the Data Catalog of Glue.
pipeline "athena" {
  source {
    use "http" {
      url = "127.0.0.1:8080"
    }
  }
  target {
    use "lake" {
      path       = "s3://my-lake/orders"
      time_field = "created_at"
      table {
        name = "lake.orders"
        glue {
          region              = "eu-central-1"
          role_arn            = "arn:aws:iam::123456789012:role/weir-catalog"
          external_id         = "lake"
          catalog_id          = "210987654321"
          custom_aws_endpoint = "https://vpce-1a2b3c4d.glue.eu-central-1.vpce.amazonaws.com"
        }
      }
    }
  }
}

# Folders of Parquet that Athena and whatever else reads Glue find without a crawler.
pipeline "folders" {
  source {
    use "http" {
      url = "127.0.0.1:8081"
    }
  }
  target {
    use "lake" {
      path       = "s3://my-lake/payments"
      time_field = "created_at"
      table {
        name             = "lake.payments"
        format           = "hive"
        projection_years = [2024, 2034]
        glue {
          region = "eu-central-1"
        }
      }
    }
  }
}

# Iceberg tables in catalogs that speak its REST protocol.
pipeline "polaris" {
  source {
    use "http" {
      url = "127.0.0.1:8082"
    }
  }
  target {
    use "lake" {
      path       = "s3://my-lake/clicks"
      time_field = "created_at"
      table {
        name = "lake.clicks"
        rest {
          url = "https://polaris.example.com/api/catalog"
          warehouse = "production"
          oauth2 {
            client_id     = "weir"
            client_secret = env.POLARIS_SECRET
            token_url     = "https://polaris.example.com/api/catalog/v1/oauth/tokens"
            scopes        = ["PRINCIPAL_ROLE:ALL"]
            # Of a server that gives out no tokens without one.
            refresh_token = env.POLARIS_REFRESH_TOKEN
          }
        }
      }
    }
  }
  failure_target {
    use "lake" {
      path         = "s3://my-lake/refused-clicks"
      partition_by = []
      table {
        name = "lake.refused_clicks"
        rest {
          url = "https://glue.eu-central-1.amazonaws.com/iceberg"
          sigv4 {
            service  = "glue"
            region   = "eu-central-1"
            role_arn = "arn:aws:iam::123456789012:role/weir-catalog"
          }
        }
      }
    }
  }
  filter_target {
    use "lake" {
      path         = "s3://my-lake/filtered-clicks"
      partition_by = []
      table {
        name = "lake.filtered_clicks"
        rest {
          url = "https://lakekeeper.example.com/catalog"
          token = env.LAKEKEEPER_TOKEN
        }
      }
    }
  }
}
