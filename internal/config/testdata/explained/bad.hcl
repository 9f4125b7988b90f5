collect "shop" {
  gateway {
    workspace_config = "x"
  }
  workspace {
    config = "workspaceConfig.json"
  }
  processor {
    isolation = "destination"
  }
  router {
    isolation = "source"
    throttle {}
  }
  rooter {}
}

collect "x y" {
  workspace {
    config = "workspaceConfig.json"
  }
}

collect "nobody" {
  gateway {}
}

collect {}

collect "nowhere" {
  workspace {}
}

collect "twice" {
  workspace {
    name   = "blocks"
    config = "workspaceConfig.json"
  }
}
