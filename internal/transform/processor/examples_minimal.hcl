transform {
  use "decompress" {}

  use "cloudWatchLogs" {}

  use "deaggregate" {}
}
