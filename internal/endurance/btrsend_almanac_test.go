package endurance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive/btrsend"
	"github.com/buttersink/buttersink/internal/archive/glacier"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/ledger/btrsenddb"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

const (
	// backupVault is the vault of btrsend, and keyOwner whom it encrypts for.
	backupVault = "Backup"
	keyOwner    = "owner@example.org"
)

// keyring makes a home of gpg with a key in it, and has the test use it.
func keyring(t *testing.T) string {
	t.Helper()
	btrfstest.Program(t, "gpg")
	// Not t.TempDir: the names of an agent's sockets have to be short.
	dir, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", dir)
	t.Cleanup(func() {
		kill := exec.Command("gpgconf", "--kill", "all")
		kill.Env = append(os.Environ(), "GNUPGHOME="+dir)
		if out, err := kill.CombinedOutput(); err != nil {
			t.Errorf("ending the agent of gpg: %v: %s", err, out)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	piped(t, nil, "gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-gen-key 'Owner <"+keyOwner+">' future-default default never")
	return dir
}

// piped has the shell run programs, and returns what comes out.
func piped(t *testing.T, in []byte, script string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-euc", script)
	cmd.Stdin = bytes.NewReader(in)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, &stderr)
	}
	return out
}

// sealed is what btrsend made of a stream, by the programs that it called.
func sealed(t *testing.T, raw []byte) []byte {
	t.Helper()
	return piped(t, raw, "gzip -4 | gpg --batch --quiet --encrypt --recipient "+keyOwner)
}

// rowsOf is btrsend's database as the store takes it.
type rowsOf struct{ *btrsenddb.DB }

func (d rowsOf) All(ctx context.Context) ([]btrsend.Row, error) {
	all, err := d.DB.All(ctx)
	rows := make([]btrsend.Row, len(all))
	for i, r := range all {
		rows[i] = btrsend.Row(r)
	}
	return rows, err
}

func (d rowsOf) Add(ctx context.Context, r btrsend.Row) error {
	return d.DB.Add(ctx, btrsenddb.Row(r))
}

// An almanac is a subvolume of which btrsend is asked every day whether it is to be
// backed up, as years go by on the clock of the vault.
type almanac struct {
	t        *testing.T
	server   *glaciertest.Server
	src, dst *btrfstest.FS
	rng      *rand.Rand
	env      map[string]string
	database string
	today    schedule.Date

	rows    []btrsend.Row     // as of the last run
	digests map[string]string // of what has been backed up, by the date
	trees   map[string]string // by archive, as it was stored
	local   map[string]bool   // the snapshots of the source, by the date
	changed int
}

func newAlmanac(t *testing.T, begin schedule.Date, seed uint64) *almanac {
	t.Helper()
	a := &almanac{
		t: t, src: btrfstest.New(t, btrfstest.MountOptions("compress=zstd")), dst: btrfstest.New(t), rng: rand.New(rand.NewPCG(seed, 0)), env: map[string]string{},
		server:   glaciertest.Start(t, glaciertest.At(noon(begin))),
		database: filepath.Join(t.TempDir(), ".btrsend.db"), today: begin,
		digests: map[string]string{}, trees: map[string]string{}, local: map[string]bool{},
	}
	a.server.Make(t, backupVault)
	for _, kv := range a.server.Env() {
		k, v, _ := strings.Cut(kv, "=")
		a.env[k] = v
		t.Setenv(k, v)
	}
	// Too long to be stored inline: see btrfstest.InlineTails.
	if err := os.WriteFile(filepath.Join(a.src.Subvolume("live"), "diary"), make([]byte, 16<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func noon(d schedule.Date) time.Time {
	return time.Date(d.Year, time.Month(d.Month), d.Day, 12, 0, 0, 0, time.UTC)
}

// morrow has a night go by.
func (a *almanac) morrow() {
	a.today = a.today.AddDays(1)
	a.server.Advance(noon(a.today).Sub(a.server.Now()))
}

// work changes what is in the subvolume: data that does not get shorter, and reflinks
// within it and to what was there before, so that streams have clones of both kinds.
func (a *almanac) work() {
	a.t.Helper()
	a.changed++
	live := a.src.Path("live")
	name := func(n int) string { return filepath.Join(live, fmt.Sprint("file", n)) }
	data := make([]byte, 4096*(1+a.rng.IntN(12)))
	for i := range data {
		data[i] = byte(a.rng.Uint32())
	}
	err := os.WriteFile(name(a.changed), data, 0o644)
	if old := a.changed - 1 - a.rng.IntN(6); old > 0 {
		err = errors.Join(err, reflink(name(old), name(a.changed)+".copy"), reflink(name(a.changed), filepath.Join(live, "newest")))
	}
	if old := a.changed - 12; old > 0 && a.rng.IntN(3) == 0 {
		err = errors.Join(err, os.RemoveAll(name(old)), os.WriteFile(name(old+1), data[:100], 0o600), os.Rename(name(old+1), name(old)))
	}
	diary, e := os.OpenFile(filepath.Join(live, "diary"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err = errors.Join(err, e); err == nil {
		_, err = fmt.Fprintf(diary, "%s: %0*d\n", a.today, a.rng.IntN(9000), a.changed)
		err = errors.Join(err, diary.Close())
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// reflink makes a file share the data of another one, if that is still there.
func reflink(from, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlFileClone(int(out.Fd()), int(in.Fd())), out.Close())
}

// open opens the store as a run of its own would. Without rows it goes by the
// inventory.
func (a *almanac) open(with bool) (*btrsend.Store, func()) {
	a.t.Helper()
	o := btrsend.Options{PartSize: 1 << 20, Seal: seal.Options{Compress: true, Gzip: true, Level: 4}, Log: slog.New(slog.NewTextHandler(a.t.Output(), nil))}
	var err error
	if o.Seal.Recipients, err = seal.ParseRecipients([]string{"gpg:" + keyOwner}); err != nil {
		a.t.Fatal(err)
	}
	closers := []io.Closer{}
	if with {
		db, err := btrsenddb.Open(a.database)
		if err != nil {
			a.t.Fatal(err)
		}
		o.Rows, closers = rowsOf{db}, append(closers, db)
	}
	v, err := glacier.Open(a.t.Context(), glacier.Options{Vault: backupVault, Getenv: func(k string) string { return a.env[k] }, Now: a.server.Now})
	if err != nil {
		a.t.Fatal(err)
	}
	st, err := btrsend.Open(a.t.Context(), v, o)
	if err != nil {
		a.t.Fatal(err)
	}
	return st.(*btrsend.Store), func() {
		a.t.Helper()
		for _, c := range append(closers, st) {
			if err := c.Close(); err != nil {
				a.t.Error(err)
			}
		}
	}
}

// late is a stream that is there once it has been asked for.
type late struct{ io.Reader }

// run asks btrsend about today, and gives it what it wants, as alter leaves it.
func (a *almanac) run(alter func([]byte) []byte) (*job.CalendarReport, error) {
	a.t.Helper()
	st, end := a.open(true)
	defer end()
	in := &late{strings.NewReader("")}
	date := a.today.String()
	report, err := (&job.Engine{Now: a.server.Now}).Calendar(a.t.Context(), st, job.CalendarOptions{
		Rule: schedule.Btrsend(), Today: a.today, In: in, From: "a test", Who: "a test",
		Decided: func(d schedule.Decision) error {
			if !d.Create {
				return nil
			}
			a.work()
			if !a.local[date] {
				a.src.Snapshot("live", date, true)
				a.local[date] = true
			}
			// What is compressed there comes as it is, from some kernels.
			args := [][]string{nil, {"--proto", "2"}, {"--proto", "2", "--compressed-data"}}[a.rng.IntN(3)]
			if !d.Parent.IsZero() {
				if !a.local[d.Parent.String()] {
					a.t.Fatalf("%s: %s is wanted as parent, which is not there any more", date, d.Parent)
				}
				args = append(args, "-p", a.src.Path(d.Parent.String()))
			}
			in.Reader = bytes.NewReader(alter(a.src.Send(date, args...)))
			return nil
		},
	})
	if report != nil && report.Made {
		a.digests[date] = btrfstest.Digest(a.t, a.src.Path(date), btrfstest.WithoutRootTime())
	}
	return report, err
}

// cull deletes the snapshots of the source that are older than 60 days, but for the
// one that was backed up last.
func (a *almanac) cull() {
	a.t.Helper()
	last := ""
	if n := len(a.rows); n > 0 {
		last = a.rows[n-1].Date
	}
	before := a.today.AddDays(-60).String()
	for date := range a.local {
		if date < before && date != last {
			a.src.Delete(date)
			delete(a.local, date)
		}
	}
}

// thaw asks for the streams of edges, and has the time pass that it takes.
func (a *almanac) thaw(st *btrsend.Store, edges []snapshot.Edge) {
	a.t.Helper()
	things, err := st.Thaw(a.t.Context(), edges, store.ThawOptions{Ask: true})
	if err != nil {
		a.t.Fatal(err)
	}
	for _, th := range things {
		if th.State == store.Cold {
			a.t.Fatalf("%s is asked for, and still cold", th.Path)
		}
	}
	a.server.Advance(glaciertest.BulkTime)
}

// restore receives the backups of some dates out of the store, in their order.
func (a *almanac) restore(fs *btrfstest.FS, with bool, wanted func(date string) bool) {
	a.t.Helper()
	st, end := a.open(with)
	defer end()
	inv, err := st.List(a.t.Context())
	for pending := (*store.PendingError)(nil); errors.As(err, &pending); inv, err = st.List(a.t.Context()) {
		a.server.Advance(glaciertest.InventoryTime)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	paths := map[snapshot.ID]string{}
	for _, s := range inv.Snapshots {
		paths[s.ID] = s.Path
	}
	edges := []snapshot.Edge{}
	for _, e := range inv.Edges {
		if wanted(paths[e.To]) {
			edges = append(edges, e.Edge)
		}
	}
	slices.SortFunc(edges, func(x, y snapshot.Edge) int { return strings.Compare(paths[x.To], paths[y.To]) })
	a.thaw(st, edges)
	for _, e := range edges {
		in, err := st.Open(a.t.Context(), store.Request{Edge: e})
		if err != nil {
			a.t.Fatal(err)
		}
		err = fs.Receive("", in)
		// What is sealed is only trusted at its end.
		_, rest := io.Copy(io.Discard, in)
		if err := errors.Join(err, rest, in.Close()); err != nil {
			a.t.Fatalf("%s: restoring %s: %v", a.today, paths[e.To], err)
		}
		a.same(fs, paths[e.To])
	}
}

// byHand receives everything that is kept as people do who have no program of ours.
func (a *almanac) byHand(fs *btrfstest.FS) {
	a.t.Helper()
	for _, r := range a.rows {
		raw := piped(a.t, a.server.Content(a.t, backupVault, r.Archive), "gpg --batch --quiet -d | gunzip")
		if err := fs.Receive("", bytes.NewReader(raw)); err != nil {
			a.t.Fatalf("%s: restoring %s by hand: %v", a.today, r.Date, err)
		}
		a.same(fs, r.Date)
	}
}

func (a *almanac) same(fs *btrfstest.FS, date string) {
	a.t.Helper()
	if got := btrfstest.Digest(a.t, fs.Path(date), btrfstest.WithoutRootTime()); got != a.digests[date] {
		differs := "it is gone from the source"
		if a.local[date] {
			differs = difference(a.t, a.src.Path(date), fs.Path(date))
		}
		a.t.Fatalf("%s: the backup of %s is not what it was: %s", a.today, date, differs)
	}
}
