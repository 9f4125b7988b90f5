package admin

import (
	"encoding/json"
	"testing"
	"time"
)

// FuzzImport reads lines of an import: none may panic, and what is accepted can be exported.
func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"payload":"x","headers":{"a":"b"},"key":{"base64":"/w=="}}`))
	f.Add([]byte(`{"payload":{"base64":"AAE="},"headers":[["a","b"]],"raw":"r","created":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var j Job
		if json.Unmarshal(line, &j) != nil {
			return
		}
		q := j.job("a", false, time.Now())
		if q.Check() != nil {
			return
		}
		if _, err := json.Marshal(jobOf(&q, StateOpen)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	})
}
