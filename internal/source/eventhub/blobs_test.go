package eventhubsource_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2/checkpoints"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	eventhubsource "github.com/weirdata/weir/internal/source/eventhub"
)

// sdk is the container as the service's own SDK sees it.
func sdk(t testing.TB, url string) *container.Client {
	t.Helper()
	t.Cleanup(sdkRequests.Close)
	return sdkClient(url)
}

var sdkRequests = httpclient.New(httpclient.Options{})

func sdkClient(url string) *container.Client {
	account, key := enginetest.AzuriteAccount()
	shared, err := container.NewSharedKeyCredential(account, key)
	if err != nil {
		panic(err)
	}
	c, err := container.NewClientWithSharedKeyCredential(url, shared, &container.ClientOptions{ClientOptions: policy.ClientOptions{Transport: sdkRequests.HTTP()}})
	if err != nil {
		panic(err)
	}
	return c
}

func numbered(from, to int) (bodies []string) {
	for i := from; i < to; i++ {
		bodies = append(bodies, fmt.Sprintf("%06d", i))
	}
	return bodies
}

// TestTakesOverFromTheSDK: what the SDK of the service has written is where we go on, and what we
// write is where it goes on.
func TestTakesOverFromTheSDK(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	hub.Append(t, 0, numbered(0, 30)...)
	url := newContainer(t)
	store, err := checkpoints.NewBlobStore(sdk(t, url), nil)
	if err != nil {
		t.Fatal(err)
	}
	events := hub.Events(t, 0)
	if err := store.SetCheckpoint(t.Context(), azeventhubs.Checkpoint{ConsumerGroup: "$Default", EventHubName: hub.Name, FullyQualifiedNamespace: hub.Address, PartitionID: "0",
		SequenceNumber: &events[9].Sequence, Offset: new(fmt.Sprint(9 * 70))}, nil); err != nil {
		t.Fatal(err)
	}
	s := opened(t, options{hub: hub, container: url}.source(t, nil))
	gots := read(t, s, 20)
	if got := texts(gots); !slices.Equal(got, numbered(10, 30)) {
		t.Errorf("read %v", got)
	}
	acked(t, gots)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cps, err := store.ListCheckpoints(t.Context(), hub.Address, hub.Name, "$Default", nil)
	if err != nil || len(cps) != 1 || *cps[0].SequenceNumber != 29 || *cps[0].Offset != fmt.Sprint(29*70) {
		t.Errorf("the SDK finds the checkpoints %+v: %v", cps, err)
	}
	owners, err := store.ListOwnership(t.Context(), hub.Address, hub.Name, "$Default", nil)
	if err != nil || len(owners) != 1 || owners[0].OwnerID != "" {
		t.Errorf("the SDK finds the owners %+v: %v", owners, err)
	}
}

// TestBesideTheSDK: an instance of ours and a processor of the SDK share a hub, and each event is
// read by one of them at least.
func TestBesideTheSDK(t *testing.T) {
	t.Parallel()
	const partitions, each = 6, 50
	hub := enginetest.NewEventHub(t, partitions)
	url := newContainer(t)
	store, err := checkpoints.NewBlobStore(sdk(t, url), nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := azeventhubs.NewConsumerClientFromConnectionString(hub.ConnectionString(), hub.Name, "$Default", nil)
	if err != nil {
		t.Fatal(err)
	}
	processor, err := azeventhubs.NewProcessor(client, store, &azeventhubs.ProcessorOptions{UpdateInterval: 300 * time.Millisecond, LoadBalancingStrategy: azeventhubs.ProcessorStrategyGreedy,
		StartPositions: azeventhubs.StartPositions{Default: azeventhubs.StartPosition{Earliest: new(true)}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	theirs := make(chan string, 10_000)
	go func() {
		for pc := processor.NextPartitionClient(ctx); pc != nil; pc = processor.NextPartitionClient(ctx) {
			go func() {
				defer func() { _ = pc.Close(context.Background()) }()
				for {
					receiving, enough := context.WithTimeout(ctx, 200*time.Millisecond)
					events, err := pc.ReceiveEvents(receiving, 100, nil)
					enough()
					for _, e := range events {
						theirs <- string(e.Body)
					}
					if len(events) > 0 {
						_ = pc.UpdateCheckpoint(ctx, events[len(events)-1], nil)
					}
					if ctx.Err() != nil || err != nil && receiving.Err() == nil {
						return
					}
				}
			}()
		}
	}()
	ran := make(chan error, 1)
	go func() { ran <- processor.Run(ctx) }()
	blobs := func() int {
		os, err := store.ListOwnership(t.Context(), hub.Address, hub.Name, "$Default", nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(os)
	}
	until(t, "the SDK has all partitions", func() bool { return blobs() == partitions })
	s := opened(t, options{hub: hub, container: url}.source(t, nil))
	until(t, "ours has its share", func() bool { return s.Owns() == partitions/2 })
	for p := range partitions {
		hub.Append(t, p, numbered(p*each, (p+1)*each)...)
	}
	got := map[string]bool{}
	mine := 0
	until(t, "each event was read", func() bool {
		reading, enough := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer enough()
		b, ack, err := s.Read(reading, connector.Room{})
		if err == nil {
			for _, m := range b {
				got[string(m.Data)] = true
			}
			mine += len(b)
			_ = ack(t.Context(), nil)
		}
		for len(theirs) > 0 {
			got[<-theirs] = true
		}
		return len(got) == partitions*each
	})
	if mine == 0 || mine == partitions*each {
		t.Errorf("ours has read %d of %d", mine, partitions*each)
	}
	stop()
	<-ran
	_ = client.Close(context.Background())
}

// TestNamesInOtherCase: E2, checkpoints are found whatever the case of namespace, hub and group in
// their names, and are written where they were found.
func TestNamesInOtherCase(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		there, here func(string) string
	}{
		{"there in lower case, here in capitals", strings.ToLower, strings.ToUpper},
		{"there in capitals, here in lower case", strings.ToUpper, strings.ToLower},
		{"both in capitals", strings.ToUpper, strings.ToUpper},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hub := enginetest.NewEventHub(t, 2)
			for p := range 2 {
				hub.Append(t, p, numbered(100*p, 100*p+10)...)
			}
			url := newContainer(t)
			folder := c.there(hub.Address + "/" + hub.Name + "/workers")
			for p := range 2 {
				upload(t, url, fmt.Sprintf("%s/checkpoint/%d", folder, p), map[string]*string{"SequenceNumber": new("6"), "Offset": new("")})
			}
			upload(t, url, folder+"/checkpoint/odd", map[string]*string{"nothing": new("here")})
			upload(t, url, folder+"/ownership/odd", nil)
			here := hub
			here.Name = c.here(hub.Name)
			s := opened(t, options{hub: here, container: url}.source(t, func(c *eventhubsource.Config) { c.ConsumerGroup = "Workers" }))
			gots := read(t, s, 6)
			got := texts(gots)
			slices.Sort(got)
			if want := append(numbered(7, 10), numbered(107, 110)...); !slices.Equal(got, want) {
				t.Errorf("read %v, want %v", got, want)
			}
			acked(t, gots)
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			for p := range 2 {
				r, err := sdk(t, url).NewBlobClient(fmt.Sprintf("%s/checkpoint/%d", folder, p)).GetProperties(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				for k, v := range r.Metadata {
					if strings.EqualFold(k, "sequencenumber") && *v != "9" {
						t.Errorf("the checkpoint that was there says %s", *v)
					}
				}
			}
		})
	}
}

func upload(t testing.TB, url, name string, metadata map[string]*string) {
	t.Helper()
	if _, err := sdk(t, url).NewBlockBlobClient(name).UploadBuffer(t.Context(), nil, &blockblob.UploadBufferOptions{Metadata: metadata}); err != nil {
		t.Fatal(err)
	}
}

// TestCheckpointsNeverGoBack: the owner before has gone further than this one, which reads the same
// again: the checkpoint stays until this one is further too.
func TestCheckpointsNeverGoBack(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1)
	hub.Append(t, 0, numbered(0, 50)...)
	url := newContainer(t)
	s := opened(t, options{hub: hub, container: url}.source(t, func(c *eventhubsource.Config) { c.MaxBatchMessages = 10 }))
	gots := read(t, s, 50)
	name := strings.ToLower(hub.Address+"/"+hub.Name+"/$Default") + "/checkpoint/0"
	upload(t, url, name, map[string]*string{"sequencenumber": new("35"), "offset": new(fmt.Sprint(35 * 70))})
	for i, g := range gots {
		if err := g.ack(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond) // for a save that must not be
		if got := sequenceOf(t, url, name); i < 3 && got != "35" {
			t.Fatalf("the checkpoint is %s after %d events", got, 10*i+10)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sequenceOf(t, url, name); got != "49" {
		t.Errorf("the checkpoint is %s", got)
	}
}

func sequenceOf(t testing.TB, url, name string) string {
	t.Helper()
	r, err := sdk(t, url).NewBlobClient(name).GetProperties(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range r.Metadata {
		if strings.EqualFold(k, "sequencenumber") {
			return *v
		}
	}
	return ""
}

// TestCheck: check says what is missing, and takes nothing away from those who read.
func TestCheck(t *testing.T) {
	t.Parallel()
	hub := enginetest.NewEventHub(t, 1, map[string]any{"groups": []string{"$default"}})
	url := newContainer(t)
	there := options{hub: hub, container: url}
	if err := there.source(t, nil).Check(t.Context()); err != nil {
		t.Error(err)
	}
	reads := opened(t, there.source(t, nil))
	until(t, "it reads", func() bool { return len(hub.Do(t, "state", nil)["readers"].([]any)) == 1 })
	if err := there.source(t, nil).Check(t.Context()); err != nil {
		t.Errorf("beside an instance that reads: %v", err)
	}
	if n := hub.Do(t, "state", nil)["stolen"].(float64); n != 0 {
		t.Errorf("check has ended %v links", n)
	}
	_ = reads
	for _, c := range []struct {
		name, says string
		s          *eventhubsource.Source
	}{
		{"a group that is missing", "consumer-group create", there.source(t, func(c *eventhubsource.Config) { c.ConsumerGroup = "nobody" })},
		{"a hub that is missing", "az eventhubs eventhub create", options{hub: enginetest.EventHub{Address: hub.Address, Name: "missing-hub"}, container: url}.source(t, nil)},
		{"a container that is missing", "az storage container create", options{hub: hub, container: url + "-not"}.source(t, nil)},
	} {
		if err := c.s.Check(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %s: %v", c.name, fault.Of(err), err)
		}
	}
}
