package machine

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// recorded is one execution that was recorded on AWS.
type recorded struct {
	ID         string          `json:"id"`
	Class      string          `json:"cls"`
	Definition json.RawMessage `json:"definition"`
	Input      *string         `json:"input"`
	Regex      [][2]string     `json:"regex"`
	JSONPath   []struct {
		JSONPath    string `json:"jsonpath"`
		Replacement string `json:"replacement"`
	} `json:"jsonpath"`
	Expected struct {
		History []map[string]any `json:"history"`
		Output  any              `json:"output"`
		Sync    map[string]any   `json:"sync"`
	} `json:"expected"`
}

// recordedAt is when the corpus pretends its executions ran.
var recordedAt = time.Date(2026, 11, 20, 9, 8, 13, 0, time.UTC)

func readCorpus(t *testing.T) []recorded {
	t.Helper()
	dir := os.Getenv("WEIR_CORPUS")
	if dir == "" {
		t.Skip("WEIR_CORPUS is not set: the recorded executions are not run")
	}
	f, err := os.Open(filepath.Join(dir, "states-language", "executions.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []recorded
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var r recorded
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// prepared is a text with the replacements that the recorded answers show.
func (r *recorded) prepared(text string) string {
	for _, p := range r.Regex {
		re, err := regexp.Compile(p[0])
		if err != nil {
			continue
		}
		quotedText, _ := json.Marshal(p[1])
		text = re.ReplaceAllLiteralString(text, string(quotedText[1:len(quotedText)-1]))
	}
	return text
}

func normal(text string) string {
	return strings.NewReplacer("arn:aws:", "arn:<partition>:", ":us-east-1:", ":<region>:").Replace(text)
}

// answer is what a task of the recorded execution gave.
type answer struct{ event Event }

// answers finds, by state, what tasks gave, in their order.
func (r *recorded) answers() map[string][]answer {
	byID := map[float64]map[string]any{}
	for _, e := range r.Expected.History {
		if id, ok := e["id"].(float64); ok {
			byID[id] = e
		}
	}
	found := map[string][]answer{}
	for _, e := range r.Expected.History {
		typ := e["type"].(string)
		kind := map[string]EventKind{"Succeeded": TaskSucceeded, "Failed": TaskFailed, "TimedOut": TaskTimedOut, "Submitted": TaskSubmitted}
		for _, family := range []string{"LambdaFunction", "Activity", "Task"} {
			k, ok := kind[strings.TrimPrefix(typ, family)]
			if !ok || !strings.HasPrefix(typ, family) {
				continue
			}
			a := answer{Event{Kind: k}}
			d := details(e)
			if out, ok := d["output"]; ok {
				a.event.Data = rawJSON(out)
			}
			a.event.Error, a.event.Cause = rawText(d["error"]), rawText(d["cause"])
			state := e
			for state != nil && state["type"] != "TaskStateEntered" {
				state = byID[state["previousEventId"].(float64)]
			}
			if state != nil {
				name := details(state)["name"].(string)
				found[name] = append(found[name], a)
			}
		}
	}
	return found
}

func details(e map[string]any) map[string]any {
	for k, v := range e {
		if m, ok := v.(map[string]any); ok && strings.HasSuffix(k, "Details") {
			return m
		}
	}
	return map[string]any{}
}

// rawJSON is the JSON text of an output: strings in the recording are JSON texts.
func rawJSON(v any) []byte {
	if s, ok := v.(string); ok && json.Valid([]byte(s)) {
		return []byte(s)
	}
	b, _ := json.Marshal(v)
	return b
}

func rawText(v any) *string {
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		return &v
	}
	b, _ := json.Marshal(v)
	s := string(b)
	return &s
}

// replay runs a recorded execution on a virtual clock, answering its tasks as recorded.
func (r *recorded) replay(def *Definition) (Execution, []HistoryEvent, error) {
	answers := r.answers()
	var history []HistoryEvent
	env := Environment{
		Now: recordedAt, Record: func(e HistoryEvent) { history = append(history, e) },
		Token: func(string, uint64) string { return "<task_token:1>" },
	}
	id := Identity{
		ID:   "arn:<partition>:states:<region>:111111111111:execution:<ArnPart_0idx>:<ExecArnPart_0idx>",
		Name: "<ExecArnPart_0idx>", Role: "snf_role_arn",
		Machine:     "arn:<partition>:states:<region>:111111111111:stateMachine:<ArnPart_0idx>",
		MachineName: "<ArnPart_0idx>",
	}
	if r.Expected.Sync != nil {
		id.ID, id.Name, id.Role = r.Expected.Sync["executionArn"].(string), r.Expected.Sync["name"].(string), "sfn_role_arn"
		id.Express = true
	}
	x := def.New(id)
	first := Event{Kind: Start}
	if r.Input != nil {
		first.Data = []byte(r.prepared(*r.Input))
	}
	queue := []Event{first}
	timers := map[uint64]time.Time{}
	for range 10_000 {
		var e Event
		if len(queue) > 0 {
			e, queue = queue[0], queue[1:]
		} else {
			ids := slices.SortedFunc(maps.Keys(timers), func(a, b uint64) int { return timers[a].Compare(timers[b]) })
			if len(ids) == 0 || timers[ids[0]].Sub(recordedAt) > 365*24*time.Hour {
				return x, history, nil
			}
			e, env.Now = Event{Kind: TimerFired, ID: ids[0]}, timers[ids[0]]
			delete(timers, ids[0])
		}
		next, actions, err := def.Step(x, e, env)
		if err != nil {
			return x, history, err
		}
		if x, err = def.Decode(next.Append(nil)); err != nil {
			return x, history, err
		}
		for _, a := range actions {
			switch a.Kind {
			case WaitUntil:
				timers[a.ID] = a.At
			case Cancel:
				delete(timers, a.ID)
			case StartTask:
				for more := true; more && len(answers[a.State]) > 0; {
					given := answers[a.State][0].event
					answers[a.State] = answers[a.State][1:]
					given.ID = a.ID
					queue = append(queue, given)
					more = given.Kind == TaskSubmitted
				}
			}
		}
	}
	return x, history, fmt.Errorf("the execution does not end")
}

// verdict is how far an execution agrees with its recording.
type verdict struct {
	kind                   string // class and what was recorded
	final, content, exact  bool
	hasHistory             bool
	difference, unfinished string
}

func (r *recorded) judge(t *testing.T) verdict {
	t.Helper()
	v := verdict{kind: r.Class + " history", hasHistory: r.Expected.History != nil}
	switch {
	case r.Expected.Sync != nil:
		v.kind = r.Class + " sync"
	case !v.hasHistory:
		v.kind = r.Class + " output"
	}
	text := string(r.Definition)
	if !strings.Contains(text, ":activity:") { // masked, an activity could not be told from a service
		text = r.prepared(text)
	}
	def, err := Parse([]byte(text), Limits{})
	if err != nil {
		problems := err.(Problems) //nolint:forcetypeassert // Parse promises it
		for _, p := range problems {
			if p.Code == CodeUnfinished {
				v.unfinished = p.Message
			}
		}
		v.difference = "refused: " + err.Error()
		return v
	}
	if r.Expected.Sync != nil && len(r.answers()) == 0 && strings.Contains(string(r.Definition), `"Task"`) {
		v.unfinished = "the answers of the tasks were not recorded"
		return v
	}
	x, history, err := r.replay(def)
	if err != nil {
		v.difference = err.Error()
		return v
	}
	r.compare(&v, &x, history)
	return v
}

func (r *recorded) compare(v *verdict, x *Execution, history []HistoryEvent) {
	if !v.hasHistory {
		want := r.Expected.Output
		if r.Expected.Sync != nil {
			want = r.Expected.Sync["output"]
		}
		got := r.masked("", parsed(normal(x.Output.JSON())))
		if v.final = x.Status == Succeeded && like(want, got); !v.final {
			v.difference = fmt.Sprintf("%s output %v, recorded %v", x.Status, got, want)
		}
		return
	}
	want := r.Expected.History
	end := want[len(want)-1]
	if len(history) == 0 {
		v.difference = "no history"
		return
	}
	ours := history[len(history)-1]
	v.final = end["type"] == ours.Type && like(any(r.wanted(end)), any(r.shown(ours)))
	if !v.final {
		v.difference = fmt.Sprintf("ends with %s %v\n recorded %s %v", ours.Type, r.shown(ours), end["type"], r.wanted(end))
	}
	v.content, v.exact = true, true
	parallel := false
	left := slices.Clone(history)
	for i, w := range want {
		at := slices.IndexFunc(left, func(e HistoryEvent) bool {
			return e.Type == w["type"] && like(any(r.wanted(w)), any(r.shown(e)))
		})
		if at < 0 {
			v.content, v.exact = false, false
			if v.difference == "" {
				v.difference = fmt.Sprintf("event %d: recorded %s %v", i+1, w["type"], r.wanted(w))
				if i < len(history) {
					v.difference += fmt.Sprintf("\n           got %s %v", history[i].Type, r.shown(history[i]))
				}
			}
			continue
		}
		e := left[at]
		left = slices.Delete(left, at, at+1)
		id, hasID := w["id"].(float64)
		parallel = parallel || !hasID
		if hasID && (uint64(id) != e.ID || uint64(w["previousEventId"].(float64)) != e.Previous) {
			if v.exact && v.difference == "" {
				v.difference = fmt.Sprintf("event %s is %d after %d, recorded %v after %v", e.Type, e.ID, e.Previous, id, w["previousEventId"])
			}
			v.exact = false
		}
	}
	for _, e := range left {
		if !parallel || e.Type != "ParallelStateSucceeded" { // the recording of branches leaves it out
			v.content, v.exact = false, false
			v.difference += fmt.Sprintf("; %s was not recorded", e.Type)
		}
	}
}

// TestRecordedExecutions scores the interpreter against executions recorded on AWS. The
// numbers below are what it reaches; they may only grow.
func TestRecordedExecutions(t *testing.T) {
	t.Parallel()
	corpus := readCorpus(t)
	type score struct{ run, final, content, exact int }
	scores, unfinished := map[string]*score{}, map[string]int{}
	for i := range corpus {
		r := &corpus[i]
		v := r.judge(t)
		if v.unfinished != "" {
			unfinished[r.Class+": "+v.unfinished]++
			continue
		}
		s := scores[v.kind]
		if s == nil {
			s = &score{}
			scores[v.kind] = s
		}
		s.run++
		count := func(n *int, ok bool) {
			if ok {
				*n++
			}
		}
		count(&s.final, v.final)
		count(&s.content, v.content)
		count(&s.exact, v.exact)
		if v.difference != "" {
			t.Logf("%s %s: %s", r.Class, r.ID[strings.LastIndex(r.ID, "::")+2:], v.difference)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(scores)) {
		s := scores[kind]
		t.Logf("%-15s %3d run: %3d end the same, %3d have the same events, %3d also the same numbers", kind, s.run, s.final, s.content, s.exact)
	}
	for _, reason := range slices.Sorted(maps.Keys(unfinished)) {
		t.Logf("not run %3d %s", unfinished[reason], reason)
	}
	for kind, least := range map[string]score{
		"aws history":    {43, 43, 43, 43},
		"lambda history": {41, 41, 39, 39}, // two were recorded before RedriveCount existed
		"mocked history": {5, 5, 5, 5},
		"pure history":   {185, 185, 185, 185},
		"pure output":    {128, 128, 0, 0},
		"pure sync":      {2, 2, 0, 0},
	} {
		s := scores[kind]
		if s == nil || s.run < least.run || s.final < least.final || s.content < least.content || s.exact < least.exact {
			t.Errorf("%s: the score fell from %+v to %+v", kind, least, s)
		}
	}
}
