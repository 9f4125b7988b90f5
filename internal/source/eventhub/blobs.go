package eventhubsource

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/weirdata/weir/internal/cloud/azure"
)

// Blobs are named HOST/HUB/GROUP/checkpoint/PARTITION and HOST/HUB/GROUP/ownership/PARTITION, are
// empty, and say what they have to say in their metadata, whose names have no case. The SDKs
// differ in the case of HOST, HUB and GROUP: the folder that is there is used, whatever its case;
// a new one is in lower case, as most of them have it.
const (
	keySequence = "sequencenumber" // decimal
	keyOffset   = "offset"         // text
	keyOwner    = "ownerid"        // empty: given back

	// Of our own, which other SDKs pass over, and lose when they take a partition.
	keyEpoch = "weirepoch"
	keyLasts = "weirlastsmillis"
)

// blobs is a ledger in a container of Blob storage.
type blobs struct {
	container        *azure.Container
	host, hub, group string
	log              *slog.Logger

	mu      sync.Mutex
	folder  string   // HOST/HUB/GROUP/
	further []string // others that differ from it by case, whose checkpoints count where it has none
}

func (b *blobs) open(ctx context.Context) error {
	found := []string{""}
	for _, want := range []string{b.host, b.hub, b.group} {
		var next []string
		for _, in := range found {
			names, err := b.folders(ctx, in)
			if err != nil {
				return err
			}
			for _, name := range names {
				if strings.EqualFold(name, want) {
					next = append(next, in+name+"/")
				}
			}
		}
		found = next
	}
	exact := b.host + "/" + b.hub + "/" + b.group + "/"
	lower := strings.ToLower(exact)
	slices.Sort(found)
	folder := lower
	switch {
	case slices.Contains(found, lower):
	case slices.Contains(found, exact):
		folder = exact
	case len(found) > 0:
		folder = found[0]
	}
	further := slices.DeleteFunc(found, func(f string) bool { return f == folder })
	if len(further) > 0 {
		b.log.Warn("checkpoints of this hub and group lie in several folders that differ by case only: the first is used, and the others for partitions that it has no checkpoint of",
			"folder", folder, "others", strings.Join(further, " "))
	}
	b.mu.Lock()
	b.folder, b.further = folder, further
	b.mu.Unlock()
	return nil
}

// folders are the names of the folders in a folder.
func (b *blobs) folders(ctx context.Context, in string) ([]string, error) {
	var names []string
	pager := b.container.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: &in})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, b.container.Fault("list the checkpoints in", err)
		}
		for _, p := range page.Segment.BlobPrefixes {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(*p.Name, in), "/"))
		}
	}
	return names, nil
}

func (b *blobs) in() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.folder
}

// meta is a value of metadata, whose names have no case.
func meta(m map[string]*string, name string) (string, bool) {
	for k, v := range m {
		if strings.EqualFold(k, name) && v != nil {
			return *v, true
		}
	}
	return "", false
}

func (b *blobs) owners(ctx context.Context) (map[string]ownership, error) {
	prefix := b.in() + "ownership/"
	os := map[string]ownership{}
	pager := b.container.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix, Include: container.ListBlobsInclude{Metadata: true}})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, b.container.Fault("list the owners in", err)
		}
		for _, item := range page.Segment.BlobItems {
			o := ownership{partition: strings.TrimPrefix(*item.Name, prefix), age: -1}
			if item.Properties == nil || item.Properties.ETag == nil {
				continue
			}
			o.version = string(*item.Properties.ETag)
			if page.Date != nil && item.Properties.LastModified != nil {
				o.age = max(page.Date.Sub(*item.Properties.LastModified)-time.Second, 0) // both are cut to seconds
			}
			// A blob without an owner is a claim of nobody: it is taken as one that was given back.
			o.owner, _ = meta(item.Metadata, keyOwner)
			if v, ok := meta(item.Metadata, keyEpoch); ok {
				o.epoch, _ = strconv.ParseInt(v, 10, 64)
			}
			if v, ok := meta(item.Metadata, keyLasts); ok {
				ms, _ := strconv.ParseInt(v, 10, 64)
				o.lasts = time.Duration(ms) * time.Millisecond
			}
			os[o.partition] = o
		}
	}
	return os, nil
}

func (b *blobs) claim(ctx context.Context, now, next ownership) (ownership, error) {
	metadata := map[string]*string{keyOwner: new(next.owner), keyEpoch: new(strconv.FormatInt(next.epoch, 10)), keyLasts: new(strconv.FormatInt(next.lasts.Milliseconds(), 10))}
	version, err := b.put(ctx, b.in()+"ownership/"+next.partition, metadata, now.version)
	switch {
	case conflict(err):
		return ownership{}, errLost
	case err != nil:
		return ownership{}, b.container.Fault("claim partition "+next.partition+" in", err)
	}
	next.version = version
	return next, nil
}

// put sets the metadata of a blob, if it is still the version that was seen; "" is none.
func (b *blobs) put(ctx context.Context, name string, metadata map[string]*string, was string) (version string, err error) {
	client := b.container.NewBlockBlobClient(name)
	if was != "" {
		r, err := client.SetMetadata(ctx, metadata, &blob.SetMetadataOptions{AccessConditions: &blob.AccessConditions{
			ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: new(azcore.ETag(was))}}})
		if err != nil {
			return "", err
		}
		return string(*r.ETag), nil
	}
	r, err := client.Upload(ctx, streaming.NopCloser(bytes.NewReader(nil)), &blockblob.UploadOptions{Metadata: metadata, AccessConditions: &blob.AccessConditions{
		ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: new(azcore.ETagAny)}}})
	if err != nil {
		return "", err
	}
	return string(*r.ETag), nil
}

// conflict reports whether a conditional write came after another.
func conflict(err error) bool {
	if bloberror.HasCode(err, bloberror.ConditionNotMet, bloberror.BlobAlreadyExists, bloberror.BlobNotFound) {
		return true
	}
	code := status(err)
	return code == http.StatusPreconditionFailed
}

func (b *blobs) checkpoint(ctx context.Context, partition string) (mark, error) {
	b.mu.Lock()
	folders := append([]string{b.folder}, b.further...)
	b.mu.Unlock()
	var best mark
	for i, f := range folders {
		cp, err := b.read(ctx, f+"checkpoint/"+partition)
		if err != nil {
			return cp, err
		}
		if cp.version == "" {
			continue
		}
		if i == 0 {
			return cp, nil
		}
		if best.offset == "" || cp.sequence < best.sequence { // nothing may be missed
			best = mark{position: cp.position}
		}
	}
	return best, nil
}

// read reads the checkpoint in a blob; one that is no checkpoint is as if it were not there.
func (b *blobs) read(ctx context.Context, name string) (mark, error) {
	r, err := b.container.NewBlobClient(name).GetProperties(ctx, nil)
	if status(err) == http.StatusNotFound && !bloberror.HasCode(err, bloberror.ContainerNotFound) {
		return mark{}, nil
	}
	if err != nil {
		return mark{}, b.container.Fault("read the checkpoint "+name+" in", err)
	}
	cp := mark{version: string(*r.ETag), position: position{sequence: unknownSequence}}
	sequence, known := meta(r.Metadata, keySequence)
	cp.offset, _ = meta(r.Metadata, keyOffset)
	n, err := strconv.ParseInt(sequence, 10, 64)
	switch {
	case known && err == nil:
		cp.sequence = n
	case cp.offset == "":
		b.log.Warn("a blob in the place of a checkpoint says neither sequence number nor offset: the partition begins where start_position says", "blob", name)
		cp.sequence = noSequence
	}
	return cp, nil
}

func (b *blobs) save(ctx context.Context, mine ownership, was mark, to position) (mark, error) {
	metadata := map[string]*string{keySequence: new(strconv.FormatInt(to.sequence, 10)), keyOffset: new(to.offset)}
	name := b.in() + "checkpoint/" + mine.partition
	version, err := b.put(ctx, name, metadata, was.version)
	if err == nil {
		return mark{to, version}, nil
	}
	if !conflict(err) {
		return was, b.container.Fault("save the checkpoint of partition "+mine.partition+" in", err)
	}
	// Somebody has written it since: whoever was the owner before us, if the partition is still ours.
	owners, err := b.owners(ctx)
	if err != nil {
		return was, fmt.Errorf("save the checkpoint of partition %s: %w", mine.partition, err)
	}
	if o := owners[mine.partition]; o.owner != mine.owner || o.epoch != mine.epoch {
		return was, errLost
	}
	return was, errChanged
}
