package buckettest

import (
	"context"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/store"
)

// Thaw asks the bucket for what is cold; a call for several keys is that of the
// first one. Of a bucket in which nothing is cold, all is readable.
func (f *Fault) Thaw(ctx context.Context, keys []string, o store.ThawOptions) (all []store.Thawing, err error) {
	first := ""
	if len(keys) > 0 {
		first = keys[0]
	}
	err = f.call(Thaw, first, func() error {
		if b, ok := f.Bucket.(archive.Thawer); ok {
			all, err = b.Thaw(ctx, keys, o)
			return err
		}
		all = make([]store.Thawing, len(keys))
		for i, key := range keys {
			at, err := f.Bucket.Stat(ctx, key)
			if err != nil {
				return err
			}
			all[i] = store.Thawing{State: store.Readable, Class: at.Class}
		}
		return nil
	})
	return all, err
}

// Tariff says whose prices hold for the bucket; nil if nobody's do.
func (f *Fault) Tariff() *store.Tariff {
	if b, ok := f.Bucket.(archive.Billed); ok {
		return b.Tariff()
	}
	return nil
}
