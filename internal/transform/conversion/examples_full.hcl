transform {
  use "formatConversion" {
    columns = {
      id       = "bigint"
      ts       = "timestamp"
      amount   = "decimal(10,2)"
      tags     = "array<string>"
      user_id  = "bigint"
      shop     = "struct<id:bigint,name:string>"
      settings = "map<string,string>"
    }
    deserializer                             = "openx"
    case_insensitive                         = true
    convert_dots_in_json_keys_to_underscores = true
    column_to_json_key_mappings              = { ts = "timestamp" }

    # A key without a column is a mistake here.
    unknown_keys = "invalid"
  }

  use "formatConversion" {
    columns           = { id = "bigint", at = "timestamp" }
    deserializer      = "hive"
    timestamp_formats = ["yyyy-MM-dd'T'HH:mm:ss.SSS", "millis"]
  }
}
