# A workspace of its own, and one of several.
collect "own" {
  workspace {
    source "site" {
      write_key = env("SITE_KEY", "k")
    }
    destination "hook" {
      type   = "WEBHOOK"
      config = { webhookUrl = "https://hook.example.com" }
    }
    connection {
      source      = "site"
      destination = "hook"
    }
  }
}

workspace "shared" {
  config = "workspaceConfig.json"
}

collect "shared" {
  workspace {
    name = "shared"
  }
}
