package glacier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/buckettest"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/store"
)

// beyond are the cases that a vault cannot do, and why. What it does in place of
// that has tests of its own.
var beyond = map[string]string{
	"upload/surplus parts":        "a vault drops no parts of an upload: TestSurplusParts",
	"copy/of an upload, and back": "a vault copies nothing: TestCopyOfCold",
}

// TestContract holds the bucket to what every bucket promises.
func TestContract(t *testing.T) {
	server := glaciertest.Start(t)
	h := harness(server)
	for _, c := range buckettest.Cases() {
		if beyond[c.Name] != "" || testing.Short() && c.Name == "list/pages" { // a vault's inventory has none
			continue
		}
		t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
	}
}

// patient is a bucket whose user asks for what is cold and waits half a day.
type patient struct {
	archive.Bucket
	server *glaciertest.Server
	vault  string
	ledger string
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

var vaults atomic.Int32

func harness(server *glaciertest.Server) buckettest.Harness {
	return buckettest.Harness{
		New: func(t testing.TB) archive.Bucket {
			p := &patient{server: server, vault: fmt.Sprint("vault-", vaults.Add(1)), ledger: filepath.Join(t.TempDir(), "ledger.db")}
			p.Bucket = openBucket(t, server, p.vault, p.ledger)
			return p
		},
		Again: func(t testing.TB, b archive.Bucket) archive.Bucket {
			p := *b.(*patient)
			p.Bucket = openBucket(t, server, p.vault, p.ledger)
			return &p
		},
	}
}

// openVault opens a vault, by the server's clock.
func openVault(t testing.TB, server *glaciertest.Server, name string) *Vault {
	t.Helper()
	v, err := Open(t.Context(), Options{
		Vault: name, Getenv: environment(server.Env()), Now: server.Now,
		Log: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	v.attempts, v.longest = attempts, 10*time.Millisecond
	v.retries = newRetries(v.attempts, v.longest)
	t.Cleanup(func() { v.Close() })
	return v
}

// openBucket opens a vault as a bucket, and makes it if it is not there.
func openBucket(t testing.TB, server *glaciertest.Server, vault, file string) archive.Bucket {
	t.Helper()
	v := openVault(t, server, vault)
	if _, err := v.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	return bucketOf(t, v, file)
}

func bucketOf(t testing.TB, v *Vault, file string) archive.Bucket {
	t.Helper()
	l, err := ledger.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b, err := NewBucket(v, l)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func environment(env []string) func(string) string {
	return func(name string) string {
		for _, e := range env {
			if value, ok := strings.CutPrefix(e, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

// testLog is where the log goes.
type testLog struct{ testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
