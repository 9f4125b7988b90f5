transform {
  use "archive" {
    workspace_config = "workspaceConfig.json"
  }
}
