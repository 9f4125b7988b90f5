package faultproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Glue stands before a Data Catalog that does not keep its own rules, as local ones do not: it
// refuses changes of a version of a table that is not the last one, batches that are too large,
// and partitions that do not have a value for each key. Changes of tables happen one at a time.
type Glue struct {
	// URL is the endpoint for clients, or for an [AWS] before it.
	URL string

	engine string
	client *http.Client

	mu      sync.Mutex
	batches []int
	stale   int
}

// Limits of Glue.
const (
	mostPartitions = 100  // in a BatchCreatePartition or BatchUpdatePartition
	mostLookedUp   = 1000 // in a BatchGetPartition, and in a page of GetPartitions
)

// NewGlue is a proxy before the catalog at an endpoint.
func NewGlue(t testing.TB, engine string) *Glue {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	g := &Glue{engine: engine, client: &http.Client{Transport: transport}}
	server := httptest.NewServer(g)
	g.URL = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return g
}

// Batches are the sizes of the batches that have created partitions.
func (g *Glue) Batches() []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]int(nil), g.batches...)
}

// Stale is how many changes were refused because they were of an old version.
func (g *Glue) Stale() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stale
}

// glueCall has what calls have in common that this proxy looks at.
type glueCall struct {
	DatabaseName string  `json:"DatabaseName"`
	TableName    string  `json:"TableName"`
	VersionID    *string `json:"VersionId"`
	MaxResults   int     `json:"MaxResults"`
	TableInput   struct {
		Name string `json:"Name"`
	} `json:"TableInput"`

	PartitionInputList []glueValues `json:"PartitionInputList"`
	PartitionsToGet    []glueValues `json:"PartitionsToGet"`
	Entries            []struct {
		PartitionValueList []string `json:"PartitionValueList"`
	} `json:"Entries"`
}

// glueValues are those of a partition.
type glueValues struct {
	Values []string `json:"Values"`
}

// ServeHTTP implements http.Handler.
func (g *Glue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var c glueCall
	if err := json.Unmarshal(body, &c); err != nil {
		Error(0, "SerializationException", err.Error()).do(nil, w, r, nil)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	refused, err := g.refuse(r, operation, &c)
	var a *answer
	if err == nil && refused == nil {
		a, err = g.ask(r, operation, body)
	}
	switch {
	case err != nil:
		cut(w)
	case refused != nil:
		refused.do(nil, w, r, nil)
	default:
		a.write(w)
	}
}

// refuse is how a call fails that breaks a rule; nil for others.
func (g *Glue) refuse(r *http.Request, operation string, c *glueCall) (Action, error) {
	switch operation {
	case "UpdateTable":
		if c.VersionID == nil {
			return Error(0, "InvalidInputException", "this proxy wants a VersionId in every change"), nil
		}
		t, err := g.table(r, c.DatabaseName, c.TableInput.Name)
		if err == nil && t != nil && t.VersionID != *c.VersionID {
			g.stale++
			return Error(0, "ConcurrentModificationException", fmt.Sprintf("Update table failed due to concurrent modifications: version %s, not %s", t.VersionID, *c.VersionID)), nil
		}
		return nil, err
	case "BatchCreatePartition":
		g.batches = append(g.batches, len(c.PartitionInputList))
		values := make([][]string, len(c.PartitionInputList))
		for i, p := range c.PartitionInputList {
			values[i] = p.Values
		}
		return g.partitions(r, c, values, mostPartitions)
	case "BatchUpdatePartition":
		values := make([][]string, len(c.Entries))
		for i, p := range c.Entries {
			values[i] = p.PartitionValueList
		}
		return g.partitions(r, c, values, mostPartitions)
	case "BatchGetPartition":
		values := make([][]string, len(c.PartitionsToGet))
		for i, p := range c.PartitionsToGet {
			values[i] = p.Values
		}
		return g.partitions(r, c, values, mostLookedUp)
	case "GetPartitions":
		if c.MaxResults > mostLookedUp {
			return Error(0, "InvalidInputException", "MaxResults is greater than 1000"), nil
		}
	}
	return nil, nil
}

func (g *Glue) partitions(r *http.Request, c *glueCall, all [][]string, most int) (Action, error) {
	if len(all) == 0 || len(all) > most {
		return Error(0, "ValidationException", fmt.Sprintf("a batch has 1 to %d partitions, not %d", most, len(all))), nil
	}
	t, err := g.table(r, c.DatabaseName, c.TableName)
	if err != nil || t == nil {
		return nil, err
	}
	for _, values := range all {
		if len(values) != len(t.PartitionKeys) {
			return Error(0, "InvalidInputException", fmt.Sprintf("the number of partition keys do not match the number of partition values: %v", values)), nil
		}
	}
	return nil, nil
}

// glueTable is what rules need to know of a table.
type glueTable struct {
	VersionID     string            `json:"VersionId"`
	PartitionKeys []json.RawMessage `json:"PartitionKeys"`
}

// table is a table of the engine; nil for none.
func (g *Glue) table(r *http.Request, database, name string) (*glueTable, error) {
	body, err := json.Marshal(map[string]string{"DatabaseName": database, "Name": name})
	if err != nil {
		return nil, err
	}
	a, err := g.ask(r, "GetTable", body)
	if err != nil || a.status != http.StatusOK {
		return nil, err
	}
	var out struct {
		Table glueTable `json:"Table"`
	}
	err = json.Unmarshal(a.body, &out)
	return &out.Table, err
}

// ask has the engine answer. It is to have it even when the client gives up.
func (g *Glue) ask(r *http.Request, operation string, body []byte) (*answer, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), http.MethodPost, g.engine+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = r.Header.Clone()
	for _, name := range []string{"Connection", "Accept-Encoding", "Content-Length"} {
		req.Header.Del(name)
	}
	req.Header.Set("X-Amz-Target", "AWSGlue."+operation)
	resp, err := g.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return &answer{resp.StatusCode, resp.Header, text}, err
}
