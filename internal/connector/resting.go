package connector

// Resting is a target of which a part, a destination, may be switched off for a time. What waits
// for it in an isolated source stays there meanwhile: it is not read. It is asked often and by many
// at once, under a lock: it must be quick.
type Resting interface {
	Rests(destination string) bool
}
