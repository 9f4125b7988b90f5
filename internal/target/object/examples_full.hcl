target {
  use "object" {
    path = "s3://my-events/orders"

    # orders/shop=7/2026/11/29/18/2m4k….jsonl.zst
    name = "shop=!{field:shop.id}/!{timestamp:yyyy/MM/dd/HH}/!{unique}!{extension}"

    # What a write holds of one shop becomes one object.
    each = "batch"

    # What stands behind every message, and whether payloads may hold it.
    delimiter        = "\n"
    allow_delimiters = true

    compression      = "zstd"
    extension        = ".jsonl.zst"
    content_type     = "application/x-ndjson"
    content_encoding = "zstd"
    metadata         = { team = "orders" }

    s3 {
      region      = "eu-central-1"
      role_arn    = "arn:aws:iam::123456789012:role/weir-writer"
      external_id = "orders"

      # Something else that speaks the protocol of S3, with the bucket in the path.
      custom_aws_endpoint = "https://s3.example.com"
      path_style          = true

      server_side_encryption = "aws:kms"
      kms_key_id             = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
      bucket_key             = true
      storage_class          = "STANDARD_IA"

      expected_bucket_owner = "123456789012"
      requester_pays        = true

      # For stores that do not know the checksums of today.
      checksums  = "when_required"
      part_bytes = 16777216
    }

    # An object is written when it is full, or after a minute.
    batching {
      max_batch_messages     = 5000
      max_batch_bytes        = 16777216
      max_message_bytes      = 1048576
      max_concurrent_batches = 4
      flush_period_millis    = 60000
    }
  }
}

# The records as they came, beside what becomes of them.
backup_target {
  use "object" {
    path            = "s3://my-backup/orders"
    prefix          = "raw/!{timestamp:yyyy/MM/dd/HH}/"
    firehose_limits = "ignore"
    batching {
      flush_period_millis = 900000
      max_batch_bytes     = 67108864
    }
  }
}

# Parquet by partition, with the columns of a table in AWS Glue.
target {
  use "object" {
    path   = "s3://my-events/tables"
    prefix = "orders/shop=!{partitionKeyFromQuery:shop}/"
    format_conversion {
      catalog_table {
        name        = "lake.orders"
        version_id  = "LATEST"
        region      = "eu-central-1"
        role_arn    = "arn:aws:iam::123456789012:role/weir-reader"
        external_id = "orders"
        catalog_id  = "123456789012"

        # Something else that speaks the protocol of Glue.
        custom_aws_endpoint = "https://glue.example.com"
      }
      deserializer      = "hive"
      timestamp_formats = ["millis"]
      unknown_keys      = "invalid"
    }
  }
}

# Or with columns that are declared here.
target {
  use "object" {
    path = "s3://my-events/declared"
    format_conversion {
      columns                                  = { id = "bigint", ts = "timestamp", user_id = "bigint" }
      compression_level                        = "fast"
      deserializer                             = "openx"
      case_insensitive                         = true
      convert_dots_in_json_keys_to_underscores = true
      column_to_json_key_mappings              = { ts = "timestamp" }
    }
  }
}

# Comma-separated values, for those who want files.
target {
  use "object" {
    path      = "s3://my-events/csv"
    delimiter = "\r\n"
    csv {
      columns      = ["id", "shop.id", "at"]
      header       = true
      separator    = ";"
      quote        = "all"
      null         = "\\N"
      unknown_keys = "invalid"
    }
  }
}

failure_target {
  use "object" {
    path = "gs://my-failures/weir"

    # As Amazon Data Firehose names objects: errors/processing-failed/2026/11/29/orders-1-2026-11-29-18-05-01-….gz
    prefix           = "errors/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/"
    stream_name      = "orders"
    custom_time_zone = "Europe/Berlin"
    compression      = "gzip"

    # Where partition keys are in a prefix, or fields in a name: how many buffers fill at once, and
    # what becomes of a message that needs one more.
    max_partitions = 500
    when_exceeded  = "write"

    gcs {
      # The default credentials of Google Cloud without it.
      credentials_path = "writer.json"
      endpoint         = "storage.googleapis.com:443"
      billing_project  = "my-project"
      kms_key          = "projects/my-project/locations/eu/keyRings/weir/cryptoKeys/failures"
    }
  }
}

filter_target {
  use "object" {
    path = "azblob://filtered/weir"

    # An object for each order; a newer one of the same number replaces it.
    name     = "!{field:order.id}.json"
    each     = "message"
    existing = "replace"

    azblob {
      account     = "myaccount"
      account_key = "a2V5IG9mIHRoZSBzdG9yYWdlIGFjY291bnQ="
      endpoint    = "https://myaccount.privatelink.blob.core.windows.net"
    }
  }
}
