workspace "nothing" {}

workspace "both" {
  config = "workspaceConfig.json"
  source "site" {
    write_key = "k"
  }
}

workspace "plane" {
  control_plane {
    url              = "plane"
    token            = ""
    poll_interval_ms = 1
  }
}

workspace "blocks" {
  source "site" {
    write_key = "k"
  }
  source "site" {
    write_key = "k"
    config    = 5
  }
  source "empty" {
    write_key = ""
  }
  destination "hook" {
    type   = ""
    config = ["x"]
  }
  connection {
    source      = "sight"
    destination = "hook"
  }
  connection {
    source      = "site"
    destination = "hooks"
  }
}
