transform {
  use "archive" {
    workspace_config = "workspaceConfig.json"
  }

  use "archive" {
    workspace = "acme"
  }
}

# The same by the name of a workspace block, which says where the configuration comes from.
workspace "acme" {
  config = "workspaceConfig.json"
}
