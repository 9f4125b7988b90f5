package workspace

import "time"

// Join is several workspaces as one state, in their order: a source is found whichever of them it
// belongs to. What two of them have in common, an ID or a write key, is that of the first, and named.
func Join(all []*Workspace, now time.Time) *Workspace {
	sources, destinations := 0, 0
	for _, w := range all {
		sources, destinations = sources+len(w.Sources), destinations+len(w.destinations)
	}
	j := &Workspace{
		Loaded: now, Sources: make([]*Source, 0, sources),
		byKey: make(map[string]*Source, sources), byHeader: make(map[string]*Source, sources),
		byID: make(map[string]*Source, sources), destinations: make(map[string]*Destination, destinations), code: map[string]*Code{},
	}
	for _, w := range all {
		for id, c := range w.code {
			if j.code[id] == nil {
				j.code[id] = c
			}
		}
		j.Warnings = append(j.Warnings, w.Warnings...)
		for _, s := range w.Sources {
			switch {
			case j.byID[s.ID] != nil:
				j.Warnings = append(j.Warnings, "source \""+s.ID+"\" is in the workspaces \""+j.byID[s.ID].Workspace+"\" and \""+s.Workspace+"\": the first counts")
				continue
			case s.WriteKey != "" && j.byKey[s.WriteKey] != nil:
				j.Warnings = append(j.Warnings, "source \""+s.ID+"\" of workspace \""+s.Workspace+"\" has the write key of source \""+j.byKey[s.WriteKey].ID+"\": the first counts")
				continue
			}
			j.Sources = append(j.Sources, s)
			j.index(s)
		}
		for id, d := range w.destinations {
			switch other := j.destinations[id]; {
			case other == nil:
				j.destinations[id] = d
			case other != d:
				j.Warnings = append(j.Warnings, "destination \""+id+"\" is in the workspaces \""+other.Workspace+"\" and \""+d.Workspace+"\": the first counts for what waits for it")
			}
		}
	}
	return j
}
