source {
  use "gateway" {
    workspace_config = "workspaceConfig.json"
  }
}
