package archive_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// patient is a bucket whose user asks for what is cold, and waits half a day.
type patient struct {
	archive.Bucket
	server *glaciertest.Server
}

func (p *patient) Stat(ctx context.Context, key string) (archive.Object, error) {
	o, err := p.Bucket.Stat(ctx, key)
	o.Cold = false
	return o, err
}

func (p *patient) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		for o, err := range p.Bucket.List(ctx, prefix) {
			o.Cold = false
			if !yield(o, err) {
				return
			}
		}
	}
}

func (p *patient) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	in, err := p.Bucket.Get(ctx, key, offset, length)
	if !errors.Is(err, store.ErrCold) {
		return in, err
	}
	if _, err := p.Bucket.(archive.Thawer).Thaw(ctx, []string{key}, store.ThawOptions{Ask: true}); err != nil {
		return nil, err
	}
	p.server.Advance(glaciertest.BulkTime)
	return p.Bucket.Get(ctx, key, offset, length)
}

// TestContractOnVault holds archives in a vault to the contract of stores, as far
// as somebody who waits for everything can tell.
func TestContractOnVault(t *testing.T) {
	server := glaciertest.Start(t)
	to, keys := pair(t)
	n := 0
	o := archive.Options{Seal: seal.Options{Compress: true, Recipients: to}, Keys: keys, Prefix: "some/where"}
	storetest.Run(t, harness(o, 1<<20, func(t testing.TB) func(t testing.TB) archive.Bucket {
		t.Helper()
		n++
		name := fmt.Sprint("vault-", n)
		file := filepath.Join(t.TempDir(), "ledger.db")
		return func(t testing.TB) archive.Bucket {
			t.Helper()
			v, err := glacier.Open(t.Context(), glacier.Options{Vault: name, Now: server.Now, Getenv: func(name string) string {
				for _, v := range slices.Backward(server.Env()) {
					if value, ok := strings.CutPrefix(v, name+"="); ok {
						return value
					}
				}
				return ""
			}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Make(t.Context()); err != nil {
				t.Fatal(err)
			}
			l, err := ledger.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			b, err := glacier.NewBucket(v, l)
			if err != nil {
				t.Fatal(err)
			}
			return &patient{b, server}
		}
	}))
}
