package eventhubsource

import "time"

// Impatient has the source ask and judge as often as a test can wait for.
func (s *Source) Impatient(every, silence time.Duration) { s.readEvery, s.silence = every, silence }

// Owns is how many partitions are read here.
func (s *Source) Owns() int { return len(s.current().all()) }
