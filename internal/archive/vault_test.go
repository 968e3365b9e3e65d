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
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/snapshot"
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
			b, _ := openVault(t, server, name, file)
			return &patient{b, server}
		}
	}))
}

// openVault opens a vault as a bucket, with a ledger, and makes it where it is not
// there.
func openVault(t testing.TB, server *glaciertest.Server, name, file string) (b archive.Bucket, made bool) {
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
	if made, err = v.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if b, err = glacier.NewBucket(v, l); err != nil {
		t.Fatal(err)
	}
	return b, made
}

// TestVaultAloneRestores stores a chain in a vault, loses everything on this
// machine, and restores all from the vault.
func TestVaultAloneRestores(t *testing.T) {
	server := glaciertest.Start(t)
	to, keys := pair(t)
	dir := t.TempDir()
	open := func(file string) *archive.Store {
		t.Helper()
		b, _ := openVault(t, server, "v", filepath.Join(dir, file))
		s, err := archive.Open(t.Context(), b, archive.Options{
			Seal: seal.Options{Compress: true, Recipients: to}, Keys: keys, Prefix: "p", PartSize: 1 << 20, Version: "test",
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	live := storetest.NewMemory("live")
	live.SetBulk(600_000)
	s := open("lost.db")
	if err := s.Init(t.Context(), archive.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	var from snapshot.ID
	var all []snapshot.Snapshot
	for i := range 4 {
		x := live.Add("tree", uint64(100+i), fmt.Sprint("daily/", i))
		carry(t, live, s, store.Want{Edge: snapshot.Edge{To: x.ID, From: from}, Path: x.Path})
		all, from = append(all, x), x.ID
	}
	server.Advance(72 * time.Hour)

	// As somebody does who tries again every few hours.
	var left *archive.Store
	asked := false
	for hours := 0; left == nil; hours += 3 {
		if hours > 72 {
			t.Fatal("it has taken three days")
		}
		s := open("new.db")
		inv, err := s.List(t.Context())
		if err == nil {
			var edges []snapshot.Edge
			for _, e := range inv.Edges {
				edges = append(edges, e.Edge)
			}
			if len(edges) != len(all) {
				t.Fatalf("%d streams are listed of %d", len(edges), len(all))
			}
			var told []store.Thawing
			if told, err = s.Thaw(t.Context(), edges, store.ThawOptions{Ask: true}); err != nil {
				t.Fatal(err)
			}
			asked = true
			if !slices.ContainsFunc(told, func(t store.Thawing) bool { return t.State != store.Readable }) {
				left = s
			}
		} else if !errors.Is(err, store.ErrCold) {
			t.Fatal(err)
		}
		server.Advance(3 * time.Hour)
	}
	if !asked {
		t.Error("nothing was asked for")
	}
	for _, x := range all {
		if got := restored(t, left, x.ID); got != live.Digest(x.ID) {
			t.Errorf("%s is restored as %s", x.Path, got)
		}
	}
	for _, a := range server.Archives(t, "v") {
		if n := server.Asked(t, "v", a.ID); n > 1 {
			t.Errorf("%s was asked for %d times", a.Description, n)
		}
	}
}
