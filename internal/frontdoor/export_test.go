package frontdoor

// Tabled reports whether the door of p has a table of who gets which request.
func Tabled(p *Place) bool { return p.door.table.Load() != nil }
