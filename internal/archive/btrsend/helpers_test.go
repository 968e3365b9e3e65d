package btrsend_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/buttersink/buttersink/internal/archive/btrsend"
	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// realEnv turns what a test lacks from a reason to skip it into a failure.
const realEnv = "BUTTERSINK_TEST_REAL"

const friend = "friend@example.org"

// run runs a command with some input and returns its output.
func run(t testing.TB, in []byte, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv(realEnv) != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(in)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, &stderr)
	}
	return out
}

// keyring makes a home of gpg with a key in it, and has the test use it.
func keyring(t *testing.T) {
	t.Helper()
	// Not t.TempDir: the names of an agent's sockets have to be short.
	dir, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", dir)
	t.Cleanup(func() {
		t.Setenv("GNUPGHOME", dir)
		if out, err := exec.Command("gpgconf", "--kill", "all").CombinedOutput(); err != nil {
			t.Errorf("ending the agent of gpg: %v: %s", err, out)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	run(t, nil, "gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", "A Friend <"+friend+">", "future-default", "default", "never")
}

// sealing is what btrsend does to streams.
func sealing(t testing.TB) seal.Options {
	t.Helper()
	to, err := seal.ParseRecipients([]string{"gpg:" + friend})
	if err != nil {
		t.Fatal(err)
	}
	return seal.Options{Compress: true, Gzip: true, Level: 4, Recipients: to}
}

// rows is a database in memory.
type rows struct {
	mu      sync.Mutex
	all     []btrsend.Row
	last    int64
	failing error  // of Add
	added   func() // before Add does
}

func (r *rows) All(context.Context) ([]btrsend.Row, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.all)
	slices.SortStableFunc(all, func(a, b btrsend.Row) int { return strings.Compare(a.Date, b.Date) })
	return all, nil
}

func (r *rows) Add(_ context.Context, row btrsend.Row) error {
	if r.added != nil {
		r.added()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing != nil {
		return r.failing
	}
	r.last++
	row.ID = r.last
	r.all = append(r.all, row)
	return nil
}

func (r *rows) Remove(_ context.Context, id int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.all)
	r.all = slices.DeleteFunc(r.all, func(row btrsend.Row) bool { return row.ID == id })
	if len(r.all) == before {
		return errors.New("there is no such row")
	}
	return nil
}

// bench is a vault with a store in it.
type bench struct {
	*testing.T
	server *glaciertest.Server
	rows   *rows
	store  *btrsend.Store
	said   bytes.Buffer // of the store, to the log
}

const vault = "Backup"

// begin makes a vault and a store; with a nil database it goes by the inventory.
func begin(t *testing.T, db *rows) *bench {
	t.Helper()
	b := &bench{T: t, server: glaciertest.Start(t), rows: db}
	b.server.Make(t, vault)
	b.open()
	return b
}

// open makes the store anew, as another run would.
func (b *bench) open() {
	b.Helper()
	env := map[string]string{}
	for _, kv := range b.server.Env() {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	v, err := glacier.Open(b.Context(), glacier.Options{Vault: vault, Getenv: func(k string) string { return env[k] }, Now: b.server.Now})
	if err != nil {
		b.Fatal(err)
	}
	o := btrsend.Options{Seal: sealing(b), PartSize: 1 << 20, Log: slog.New(slog.NewTextHandler(io.MultiWriter(b.Output(), &b.said), nil))}
	if b.rows != nil {
		o.Rows = b.rows
	}
	st, err := btrsend.Open(b.Context(), v, o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	b.store = st.(*btrsend.Store)
}

// list lists the store.
func (b *bench) list() *snapshot.Inventory {
	b.Helper()
	inv, err := b.store.List(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return inv
}

// put stores a stream as the backup of a date; its parent is that of another date.
func (b *bench) put(date, parent string, raw []byte) error {
	b.Helper()
	want := store.Want{Path: date}
	id, err := stream.NewReader(bytes.NewReader(raw)).Identity()
	if err != nil {
		b.Fatal(err)
	}
	want.Edge.To = id.UUID
	if parent != "" {
		want.Edge.From = b.at(parent).ID
	}
	w, err := b.store.Create(b.Context(), want)
	if err != nil {
		return err
	}
	defer func() {
		if err := w.Close(); err != nil {
			b.Error(err)
		}
	}()
	in := stream.NewReader(bytes.NewReader(raw))
	for {
		part, err := in.NextRun()
		if errors.Is(err, io.EOF) || errors.Is(err, stream.ErrTruncated) {
			break // and it is for the writer to notice
		}
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return w.Commit(b.Context())
}

// at is the snapshot at a path.
func (b *bench) at(path string) snapshot.Snapshot {
	b.Helper()
	for _, s := range b.list().Snapshots {
		if s.Path == path {
			return s
		}
	}
	b.Fatalf("there is no backup %s", path)
	return snapshot.Snapshot{}
}

// thaw asks for all that there is, and has the time pass that it takes.
func (b *bench) thaw() {
	b.Helper()
	if _, err := b.store.Thaw(b.Context(), edges(b.list()), store.ThawOptions{Ask: true}); err != nil {
		b.Fatal(err)
	}
	b.server.Advance(glaciertest.BulkTime)
}

func edges(inv *snapshot.Inventory) []snapshot.Edge {
	var all []snapshot.Edge
	for _, e := range inv.Edges {
		all = append(all, e.Edge)
	}
	return all
}

// read reads a stream to its end.
func (b *bench) read(e snapshot.Edge) ([]byte, error) {
	in, err := b.store.Open(b.Context(), store.Request{Edge: e})
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

// old is an archive as btrsend makes it: by gzip and gpg themselves.
func old(t testing.TB, raw []byte) []byte {
	t.Helper()
	return run(t, run(t, raw, "gzip", "-4"), "gpg", "--batch", "--encrypt", "--recipient", friend)
}

// undone is what gpg and gunzip make of an archive.
func undone(t testing.TB, b []byte) []byte {
	t.Helper()
	return run(t, run(t, b, "gpg", "--batch", "--quiet", "-d"), "gzip", "-dc")
}

// made is a stream of a snapshot, on top of another one unless that is zero, with
// some data that does not get shorter, and clones.
func made(t testing.TB, own, parent snapshot.ID, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := stream.NewWriter(&b, 1)
	all := []*stream.Command{{Kind: stream.Subvol, Path: []byte("snap"), UUID: own, Transid: 7}}
	if !parent.IsZero() {
		all = []*stream.Command{{Kind: stream.Snapshot, Path: []byte("snap"), UUID: own, Transid: 9, CloneUUID: parent, CloneTransid: 7}}
	}
	all = append(all, &stream.Command{Kind: stream.MkFile, Path: []byte("f"), Ino: 257})
	noise := rand.NewChaCha8([32]byte(append(own[:], own[:]...)))
	for at := 0; at < size; at += 48 << 10 {
		data := make([]byte, min(48<<10, size-at))
		noise.Read(data)
		all = append(all, &stream.Command{Kind: stream.Write, Path: []byte("f"), FileOffset: uint64(at), Data: data})
	}
	for _, of := range []snapshot.ID{own, parent} {
		all = append(all, &stream.Command{Kind: stream.Clone, Path: []byte("f"), FileOffset: 1 << 30, CloneLen: 4096, CloneUUID: of, ClonePath: []byte("f")})
	}
	for _, c := range append(all, &stream.Command{Kind: stream.End}) {
		if err := w.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
