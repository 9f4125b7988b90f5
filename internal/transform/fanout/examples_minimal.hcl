transform {
  use "fanout" {
    workspace_config = "workspaceConfig.json"
  }
}
