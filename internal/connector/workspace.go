package connector

import (
	"fmt"

	"github.com/weirdata/weir/internal/workspace"
)

// Workspace is the workspace configuration that a connector's options name: the file
// workspace_config, or the block workspace. All that name the same one see one state, which
// changes for all of them at once.
func (d Deps) Workspace(config, name string) (workspace.Live, error) {
	if name == "" {
		path, err := d.File("workspace_config", config)
		if err != nil {
			return nil, err
		}
		return workspace.Open(path, d.Log)
	}
	w, ok := d.Workspaces[name]
	if !ok {
		return nil, Blame("workspace", fmt.Sprintf("declare it with a block workspace %q { ... }", name), fmt.Errorf("there is no workspace %q", name))
	}
	return w, nil
}

// NamesWorkspace is what is wrong with the options of a connector that needs a workspace
// configuration.
func NamesWorkspace(config, name string) []Problem {
	switch {
	case config == "" && name == "":
		return []Problem{{Field: "workspace_config", What: "workspace_config is empty", Fix: "write the path of the workspaceConfig.json, or workspace with the name of a workspace block"}}
	case config != "" && name != "":
		return []Problem{{Field: "workspace", What: "workspace_config and workspace both say where the workspace configuration is", Fix: "keep one of the two"}}
	}
	return nil
}
