package usertransform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/workspace"
)

// maxRemote bounds the bytes of a transformer's answer.
const maxRemote = 64 << 20

// remote is a rudder-transformer that runs the code.
type remote struct {
	url    string
	client *httpclient.Client

	mu    sync.Mutex
	tired map[string]time.Time // versions that had to wait too long, and until when they are left alone
}

func newRemote(base string) *remote {
	return &remote{url: strings.TrimSuffix(base, "/") + "/customTransform", client: httpclient.New(httpclient.Options{IdlePerHost: 16}), tired: map[string]time.Time{}}
}

type remoteMetadata struct {
	SourceID         string `json:"sourceId"`
	OriginalSourceID string `json:"originalSourceId"`
	SourceName       string `json:"sourceName"`
	SourceType       string `json:"sourceType"`
	SourceCategory   string `json:"sourceCategory"`
	WorkspaceID      string `json:"workspaceId"`
	DestinationID    string `json:"destinationId"`
	DestinationName  string `json:"destinationName"`
	DestinationType  string `json:"destinationType"`
	MessageID        string `json:"messageId"`
	JobID            int    `json:"jobId"`
	ReceivedAt       string `json:"receivedAt,omitempty"`
	Transformation   string `json:"transformationId"`
	Version          string `json:"transformationVersionId"`
}

type remoteEvent struct {
	Message     json.RawMessage `json:"message"`
	Metadata    remoteMetadata  `json:"metadata"`
	Destination struct {
		Transformations []remoteVersion `json:"Transformations"`
	} `json:"destination"`
	Libraries   []remoteVersion    `json:"libraries"`
	Credentials []remoteCredential `json:"credentials"`
}

type remoteVersion struct {
	VersionID string `json:"VersionID"`
}

type remoteCredential struct {
	ID       string `json:"id"`
	Key      string `json:"key"`
	Value    string `json:"value"`
	IsSecret bool   `json:"isSecret"`
}

type remoteAnswer struct {
	Output     json.RawMessage `json:"output"`
	StatusCode int             `json:"statusCode"`
	Error      json.RawMessage `json:"error"`
	Metadata   struct {
		JobID      *int     `json:"jobId"`
		MessageID  string   `json:"messageId"`
		MessageIDs []string `json:"messageIds"`
	} `json:"metadata"`
}

// The statuses of an answer.
const (
	remoteOK       = 200
	remoteFiltered = 298
	remoteAway     = 809 // its control plane does not answer
)

// run has the transformer run the code for events, at most [MaxCall].
func (r *remote) run(ctx context.Context, may *workspace.Code, s *workspace.Source, c *workspace.Connection, b event.Batch, results []Result, o How) {
	t := c.Destination.Transformation()
	if o == Brief && r.waits(t.Version) {
		fail(results, errSlow)
		return
	}
	answers, err := r.ask(ctx, r.request(may, s, c, b))
	if err != nil {
		if fault.Of(err) == fault.Invalid {
			err = invalid(err)
		} else {
			r.mu.Lock()
			if len(r.tired) > maxPrograms {
				clear(r.tired)
			}
			r.tired[t.Version] = time.Now().Add(Slow)
			r.mu.Unlock()
			err = fault.Pace(fmt.Errorf("user transformation: %w", err), again)
		}
		fail(results, err)
		return
	}
	place(answers, b, results)
}

func (r *remote) waits(version string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.tired[version])
}

func (r *remote) request(may *workspace.Code, s *workspace.Source, c *workspace.Connection, b event.Batch) []remoteEvent {
	d, t := c.Destination, c.Destination.Transformation()
	events := make([]remoteEvent, len(b))
	for i, m := range b {
		e := &events[i]
		e.Message = m.Data
		e.Metadata = remoteMetadata{
			SourceID: s.ID, OriginalSourceID: s.ID, SourceName: s.Name, SourceType: s.Definition, SourceCategory: s.Category, WorkspaceID: s.Workspace,
			DestinationID: d.ID, DestinationName: d.Name, DestinationType: d.Type, MessageID: messageID(m.Data), JobID: i,
			Transformation: t.ID, Version: t.Version,
		}
		if !m.Times.Created.IsZero() {
			e.Metadata.ReceivedAt = m.Times.Created.UTC().Format("2006-01-02T15:04:05.000Z07:00")
		}
		e.Destination.Transformations = []remoteVersion{{t.Version}}
		e.Libraries, e.Credentials = []remoteVersion{}, []remoteCredential{}
		for _, l := range may.Libraries {
			e.Libraries = append(e.Libraries, remoteVersion{l})
		}
		for _, k := range may.Credentials {
			e.Credentials = append(e.Credentials, remoteCredential{k.ID, k.Key, k.Value, k.Secret})
		}
	}
	return events
}

func (r *remote) ask(ctx context.Context, events []remoteEvent) ([]remoteAnswer, error) {
	body, err := json.Marshal(events)
	if err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("write events for the transformer: %w", err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("X-Feature-Filter-Code", "?1")
	req.Header.Set("X-Feature-Gzip-Support", "?1")
	resp, err := r.client.Do(req, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the transformer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := httpclient.Body(resp, maxRemote)
	status := resp.StatusCode
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the transformer's answer: %w", err)
	case status == remoteAway || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500:
		return nil, fmt.Errorf("the transformer at %s answers %d", req.URL.Redacted(), status)
	case status != http.StatusOK:
		return nil, fault.New(fault.Invalid, fmt.Errorf("the transformer answers %d: %.500s", status, text))
	case resp.Header.Get("apiVersion") != "2":
		return nil, fmt.Errorf("the transformer at %s answers in version %q of the contract, not 2", req.URL.Redacted(), resp.Header.Get("apiVersion"))
	}
	var answers []remoteAnswer
	if err := json.Unmarshal(text, &answers); err != nil {
		return nil, fmt.Errorf("read the transformer's answer: %w", err)
	}
	return answers, nil
}

// place gives each answer to the event that it is for, as its metadata says, or to the first. An
// event that no answer is for has failed: nobody said that it was dropped.
func place(answers []remoteAnswer, b event.Batch, results []Result) {
	ids := make(map[string]int, len(b))
	for i, m := range b {
		if id := messageID(m.Data); id != "" {
			if _, taken := ids[id]; !taken {
				ids[id] = i
			}
		}
	}
	told := make([]bool, len(b))
	for _, a := range answers {
		at := []int{}
		for _, id := range a.Metadata.MessageIDs {
			if i, ok := ids[id]; ok {
				at = append(at, i)
			}
		}
		if j := a.Metadata.JobID; j != nil && *j >= 0 && *j < len(b) && messageID(b[*j].Data) == a.Metadata.MessageID {
			at = append([]int{*j}, at...)
		} else if i, ok := ids[a.Metadata.MessageID]; ok {
			at = append([]int{i}, at...)
		}
		if len(at) == 0 {
			at = append(at, 0)
		}
		for _, i := range at {
			told[i] = true
		}
		r := &results[at[0]]
		switch {
		case a.StatusCode == remoteFiltered:
		case a.StatusCode != remoteOK:
			if r.Err == nil {
				r.Err = invalid(fmt.Errorf("the transformer says %d: %s", a.StatusCode, said(a.Error)))
			}
		case len(a.Output) == 0 || a.Output[0] != '{':
			r.Err = invalid(errors.New("the transformer returned an event that is not an object"))
		default:
			r.Out = append(r.Out, a.Output)
		}
	}
	for i := range results {
		if !told[i] && results[i].Err == nil {
			results[i].Err = invalid(errors.New("the transformer answers nothing for the event"))
		}
		if results[i].Err != nil {
			results[i].Out = nil
		}
	}
}

// said is the text of an error, which may be any JSON.
func said(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	return text[:min(len(text), 2000)]
}
