package archive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/buttersink/buttersink/internal/store"
)

// What the bucket of the tests has of cold storage: classes, and a clock that
// stands still but for changes and advance.

const (
	coldSmall = 128 << 10
	// memoryThaw is how long it takes, whatever the tier.
	memoryThaw = 12 * time.Hour
)

// inClass is an object as it is in a class.
func inClass(o memoryObject, class string) memoryObject {
	o.class = class
	o.cold = class == "GLACIER" || class == "DEEP_ARCHIVE"
	o.fixed = o.cold || class == "GLACIER_IR" || class == "STANDARD_IA"
	return o
}

// move has objects be in a class, as rules of a bucket do.
func (b *memoryBucket) move(class string, keys ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		o, ok := b.objects[key]
		if !ok {
			panic("there is no " + key)
		}
		b.objects[key] = inClass(o, class)
	}
}

func (b *memoryBucket) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = b.clock.Add(d)
}

func (b *memoryBucket) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clock
}

func (b *memoryBucket) Thaw(ctx context.Context, keys []string, o store.ThawOptions) (all []store.Thawing, failed error) {
	for _, key := range keys {
		if err := b.begin(ctx, "Thaw", key); err != nil {
			all, failed = append(all, store.Thawing{State: store.Cold}), errors.Join(failed, err)
			continue
		}
		b.mu.Lock()
		it, ok := b.objects[key]
		if !ok {
			failed = errors.Join(failed, fmt.Errorf("thawing %s: %w", key, ErrNoObject))
		}
		t := store.Thawing{State: store.Readable, Class: it.class}
		if it.cold && !it.ready.IsZero() && !b.clock.Before(it.until) {
			it.ready, it.until = time.Time{}, time.Time{}
		}
		switch {
		case !ok:
			t.State = store.Cold
		case !it.cold:
		case !it.isCold(b.clock):
			t.Until = it.until
		case !it.ready.IsZero():
			t.State = store.Pending
		case o.Ask:
			it.ready = b.clock.Add(memoryThaw)
			it.until = it.ready.AddDate(0, 0, o.Days)
			if b.asked == nil {
				b.asked = map[string]int{}
			}
			b.asked[key]++
			t.State, t.Fresh, t.Tier = store.Pending, true, o.Tier
		default:
			t.State = store.Cold
		}
		if ok {
			b.objects[key] = it
		}
		b.mu.Unlock()
		all = append(all, t)
	}
	return all, failed
}

// billedBucket is one that somebody pays for.
type billedBucket struct{ *memoryBucket }

func (b billedBucket) Tariff() *store.Tariff {
	return &store.Tariff{Provider: "aws", Service: "s3", Region: "us-east-1", Class: b.class, Small: coldSmall}
}

// coldListing is a bucket of which listings do not tell what has been thawed.
type coldListing struct{ *memoryBucket }

func (b coldListing) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for o, err := range b.memoryBucket.List(ctx, prefix) {
			o.Cold = o.Cold || o.Class == "GLACIER" || o.Class == "DEEP_ARCHIVE"
			if !yield(o, err) {
				return
			}
		}
	}
}
