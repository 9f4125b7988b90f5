package enginetest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// hubs counts the hubs that tests of this process have made; hubsOf tells processes apart.
var (
	hubs   atomic.Int64
	hubsOf = time.Now().UnixNano()
)

// EventHub is a hub of the stand-in, which a test has for itself, and the door to it.
type EventHub struct {
	Address, Name string
}

// NewEventHub makes a hub with so many partitions. options are those of the door's create:
// "groups", "max_size", "advertised".
func NewEventHub(t testing.TB, partitions int, options ...map[string]any) EventHub {
	t.Helper()
	return hubAt(t, eventHubs.get(t), partitions, options...)
}

// NewEventHubAlone is NewEventHub in a stand-in that no other test uses, which stop stops.
func NewEventHubAlone(t testing.TB, partitions int, options ...map[string]any) (h EventHub, stop func() error) {
	t.Helper()
	r := eventHubs.alone(t)
	return hubAt(t, r.Address, partitions, options...), r.Stop
}

func hubAt(t testing.TB, address string, partitions int, options ...map[string]any) EventHub {
	t.Helper()
	h := EventHub{address, fmt.Sprintf("hub-%x-%d", hubsOf, hubs.Add(1))}
	all := map[string]any{"partitions": partitions}
	for _, o := range options {
		maps.Copy(all, o)
	}
	h.Do(t, "create", all)
	return h
}

// Another makes a hub in the namespace of h.
func (h EventHub) Another(t testing.TB, partitions int) EventHub {
	t.Helper()
	return hubAt(t, h.Address, partitions)
}

// ConnectionString is how clients come to the namespace of the hub.
func (h EventHub) ConnectionString() string {
	return "Endpoint=sb://" + h.Address + ";SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=c3RhbmQtaW4ta2V5;UseDevelopmentEmulator=true"
}

// Do asks the door of the stand-in for something; see eventhubs.js.
func (h EventHub) Do(t testing.TB, op string, args map[string]any) map[string]any {
	t.Helper()
	said, err := h.ask(op, args)
	if err != nil {
		t.Fatalf("the door of the Event Hubs stand-in, %s: %v", op, err)
	}
	return said
}

func (h EventHub) ask(op string, args map[string]any) (map[string]any, error) {
	all := map[string]any{"op": op, "hub": h.Name}
	maps.Copy(all, args)
	body, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Post("http://"+h.Address+"/", "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s", data)
	}
	said := map[string]any{}
	err = json.Unmarshal(data, &said)
	return said, err
}

// Append puts events into a partition.
func (h EventHub) Append(t testing.TB, partition int, bodies ...string) {
	t.Helper()
	if err := h.TryAppend(partition, bodies...); err != nil {
		t.Fatalf("the door of the Event Hubs stand-in, append: %v", err)
	}
}

// TryAppend is Append where the stand-in may be away: after an error the events may be there, or not.
func (h EventHub) TryAppend(partition int, bodies ...string) error {
	events := make([]map[string]any, len(bodies))
	for i, b := range bodies {
		events[i] = map[string]any{"body": b}
	}
	_, err := h.ask("append", map[string]any{"partition": partition, "events": events})
	return err
}

// EventHubEvent is an event that a hub holds.
type EventHubEvent struct {
	Sequence    int64
	Key, Body   string
	ContentType string
	Properties  map[string]any
}

// Events are the events of a partition.
func (h EventHub) Events(t testing.TB, partition int) []EventHubEvent {
	t.Helper()
	list, _ := h.Do(t, "events", map[string]any{"partition": partition})["events"].([]any)
	events := make([]EventHubEvent, len(list))
	for i, one := range list {
		e := one.(map[string]any)
		body, err := base64.StdEncoding.DecodeString(e["body"].(string))
		if err != nil {
			t.Fatal(err)
		}
		events[i] = EventHubEvent{Sequence: int64(e["seq"].(float64)), Key: e["key"].(string), Body: string(body), ContentType: e["content_type"].(string)}
		events[i].Properties, _ = e["properties"].(map[string]any)
	}
	return events
}

// AzuriteAccount are name and key of the account that emulators have.
func AzuriteAccount() (name, key string) {
	return "devstoreaccount1", strings.Join([]string{"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/", "K1SZFPTOtr/KBHBeksoGMGw=="}, "")
}
