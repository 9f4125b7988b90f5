transform {
  use "webhook" {
    workspace_config = "workspaceConfig.json"
  }
}
