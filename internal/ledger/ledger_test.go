package ledger

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/buttersink/buttersink/internal/snapshot"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("BUTTERSINK_TEST_LEDGER"); path != "" {
		child(path)
		return
	}
	goleak.VerifyTestMain(m)
}

var (
	noon = time.Date(2026, 11, 20, 12, 0, 0, 123456789, time.UTC)
	edge = snapshot.Edge{To: snapshot.ID{1}, From: snapshot.ID{2}}
)

func open1(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func fresh(t *testing.T) *Ledger {
	t.Helper()
	return open1(t, filepath.Join(t.TempDir(), "state", "ledger.db"))
}

func (l *Ledger) count(t *testing.T, what string) int {
	t.Helper()
	var n int
	if err := l.db.QueryRow("SELECT count(*) FROM " + what).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSizes(t *testing.T) {
	memory, err := OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for _, l := range []*Ledger{fresh(t), memory} {
		expect := func(kind string, want snapshot.Size) {
			t.Helper()
			if got, err := l.Size(edge, kind); err != nil || got != want {
				t.Errorf("Size(%s) = %+v, %v, want %+v", kind, got, err, want)
			}
		}
		remember := func(size snapshot.Size) {
			t.Helper()
			if err := l.RememberSize(edge, "stream-v1", size, noon); err != nil {
				t.Error(err)
			}
		}
		expect("stream-v1", snapshot.Size{})
		remember(snapshot.Size{})
		expect("stream-v1", snapshot.Size{})
		remember(snapshot.AboutSize(5))
		expect("stream-v1", snapshot.AboutSize(5))
		remember(snapshot.AboutSize(6))
		expect("stream-v1", snapshot.AboutSize(6))
		remember(snapshot.ExactSize(7))
		expect("stream-v1", snapshot.ExactSize(7))
		remember(snapshot.AboutSize(8))
		expect("stream-v1", snapshot.ExactSize(7))
		remember(snapshot.ExactSize(1 << 60))
		expect("stream-v1", snapshot.ExactSize(1<<60))
		expect("stream-v2", snapshot.Size{})
		if got, err := l.Size(snapshot.Edge{To: edge.To}, "stream-v1"); err != nil || got.Known {
			t.Errorf("the full stream has the size of an increment: %+v, %v", got, err)
		}
	}
}

func TestSizesOfManyEdges(t *testing.T) {
	l := fresh(t)
	noted := map[string]map[snapshot.Edge]snapshot.Size{"full": {}, "v1": {}, "": {}}
	var edges []snapshot.Edge
	for to := range byte(60) {
		for _, from := range []byte{0, 1, 0xff} {
			e := snapshot.Edge{To: snapshot.ID{0, to, 15: to}, From: snapshot.ID{15: from}}
			edges = append(edges, e)
			if to%3 != 0 {
				noted["v1"][e] = snapshot.AboutSize(int64(to)<<40 + int64(from))
			}
			if to%2 != 0 {
				noted["full"][e] = snapshot.ExactSize(int64(to))
			}
		}
	}
	for kind, sizes := range noted {
		if err := l.RememberSizes(kind, sizes, noon); err != nil {
			t.Fatal(err)
		}
	}
	for kind, want := range noted {
		got, err := l.Sizes(kind, append(edges, edges[:9]...)) // some twice
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Sizes(%q): %v\n%s", kind, err, diff)
		}
		all := true
		for _, most := range []int{len(edges), len(want) + 1} {
			got, all, err = l.SizesOf(kind, most)
			if diff := cmp.Diff(want, got); err != nil || !all || diff != "" {
				t.Errorf("SizesOf(%q, %d): %v, %v\n%s", kind, most, all, err, diff)
			}
		}
		if len(want) == 0 {
			continue
		}
		got, all, err = l.SizesOf(kind, 3)
		if err != nil || all || len(got) != 3 {
			t.Errorf("SizesOf(%q, 3): %d, %v, %v", kind, len(got), all, err)
		}
		for e, size := range got {
			if want[e] != size {
				t.Errorf("%v is said to be %v", e, size)
			}
		}
	}
	some := edges[40:60]
	got, err := l.Sizes("full", some)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range some {
		if want, there := noted["full"][e]; got[e] != want || there != got[e].Known {
			t.Errorf("Sizes of some: %v is %v, want %v", e, got[e], want)
		}
	}
	if got, err := l.Sizes("full", nil); err != nil || len(got) != 0 {
		t.Errorf("Sizes of nothing: %v, %v", got, err)
	}
}

// TestOldSizes brings a ledger with sizes up to date.
func TestOldSizes(t *testing.T) {
	one, err := schema.ReadFile("schema/001.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	l := &Ledger{db: db}
	if err := l.prepare(fstest.MapFS{"schema/001.sql": {Data: one}}); err != nil {
		t.Fatal(err)
	}
	if err := l.RememberSize(edge, "v1", snapshot.ExactSize(77), noon); err != nil {
		t.Fatal(err)
	}
	if err := l.prepare(schema); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Size(edge, "v1"); err != nil || got != snapshot.ExactSize(77) {
		t.Errorf("after the migration: %v, %v", got, err)
	}
}

func TestReceipts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open1(t, path)
	want := []Receipt{
		{Source: "src", Destination: "btrfs /mnt/\xff b", Edge: edge, Path: "new\nline \xff", Begun: noon},
		{Source: "src", Destination: "btrfs /mnt/\xff b", Edge: snapshot.Edge{To: edge.To}, Path: "b", Begun: noon.Add(time.Second)},
	}
	for i := range want {
		id, err := l.Begin(want[i])
		if err != nil || id == 0 {
			t.Fatal(id, err)
		}
		want[i].ID = id
	}
	if _, err := l.Begin(Receipt{Destination: "btrfs /mnt/c"}); err != nil {
		t.Fatal(err)
	}
	expect := func(want []Receipt) {
		t.Helper()
		got, err := l.Unfinished("btrfs /mnt/\xff b")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	expect(want)
	l.Close()
	l = open1(t, path)
	expect(want)
	first := Outcome{Result: Failed, Message: "no luck", Bytes: 3, Commands: 2, Ended: noon}
	if err := errors.Join(l.End(want[0].ID, first), l.End(want[0].ID, Outcome{Result: Done})); err != nil {
		t.Fatal(err)
	}
	expect(want[1:])
	var got Outcome
	var ended int64
	if err := l.db.QueryRow("SELECT result, message, bytes, commands, ended FROM receipts WHERE id = ?", want[0].ID).
		Scan(&got.Result, &got.Message, &got.Bytes, &got.Commands, &ended); err != nil {
		t.Fatal(err)
	}
	if got.Ended = time.Unix(0, ended).UTC(); got != first {
		t.Errorf("ended as %+v, want %+v", got, first)
	}
	if err := l.End(4711, first); err != nil {
		t.Errorf("ending a receipt that was pruned: %v", err)
	}
}

func TestRuns(t *testing.T) {
	l := fresh(t)
	id, err := l.BeginRun("sync /a/ /b/", noon)
	if err != nil {
		t.Fatal(err)
	}
	if n := l.count(t, "runs WHERE ended IS NULL"); n != 1 {
		t.Errorf("%d runs are going on", n)
	}
	if err := l.EndRun(id, Outcome{Result: Interrupted, Message: "SIGINT", Ended: noon}); err != nil {
		t.Fatal(err)
	}
	if n := l.count(t, "runs WHERE ended IS NOT NULL AND result = 'interrupted' AND message = 'SIGINT'"); n != 1 {
		t.Errorf("the end of the run is not there")
	}
}

func TestPrune(t *testing.T) {
	l := fresh(t)
	for i := range 30 {
		id, err := l.Begin(Receipt{Destination: "d", Begun: noon})
		if err != nil {
			t.Fatal(err)
		}
		if i%3 > 0 {
			l.End(id, Outcome{Result: Done, Ended: noon})
		}
		l.BeginRun("x", noon)
		l.RememberSize(snapshot.Edge{To: snapshot.ID{byte(i)}}, "k", snapshot.ExactSize(1), noon.Add(time.Duration(i)*time.Second))
	}
	expect := func(ended, owed, runs, sizes int) {
		t.Helper()
		got := []int{l.count(t, "receipts WHERE ended IS NOT NULL"), l.count(t, "receipts WHERE ended IS NULL"), l.count(t, "runs"), l.count(t, "sizes")}
		if d := cmp.Diff([]int{ended, owed, runs, sizes}, got); d != "" {
			t.Error(d)
		}
	}
	for _, slack := range []int{100, 15} {
		if err := l.prune(limits{ended: 5, owed: 6, runs: 17, sizes: 18, slack: slack}); err != nil {
			t.Fatal(err)
		}
		if slack == 100 {
			expect(20, 10, 30, 30)
		}
	}
	expect(20, 10, 30, 30)
	if err := l.prune(limits{ended: 5, owed: 6, runs: 7, sizes: 8}); err != nil {
		t.Fatal(err)
	}
	expect(5, 6, 7, 8)
	if s, _ := l.Size(snapshot.Edge{To: snapshot.ID{29}}, "k"); !s.Known {
		t.Error("the newest size was deleted")
	}
	if s, _ := l.Size(snapshot.Edge{To: snapshot.ID{21}}, "k"); s.Known {
		t.Error("an old size stayed")
	}
	// The real limits: nothing goes yet, and it is quick.
	id, _ := l.BeginRun("y", noon)
	if err := l.EndRun(id, Outcome{Result: Done}); err != nil {
		t.Fatal(err)
	}
	expect(5, 6, 8, 8)
}

func TestGoroutines(t *testing.T) {
	l := fresh(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				id, err := l.Begin(Receipt{Destination: fmt.Sprint(i), Begun: noon})
				if err == nil {
					err = l.End(id, Outcome{Result: Done, Ended: noon})
				}
				if err == nil {
					_, err = l.Unfinished(fmt.Sprint(i))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := l.count(t, "receipts WHERE ended IS NOT NULL"); n != 160 {
		t.Errorf("%d receipts, want 160", n)
	}
}

func TestMigration(t *testing.T) {
	known, err := fs.Glob(schema, "schema/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	broken, good := fstest.MapFS{}, fstest.MapFS{}
	for _, file := range known {
		data, err := schema.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		broken[file], good[file] = &fstest.MapFile{Data: data}, &fstest.MapFile{Data: data}
	}
	broken["schema/801.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE more (x INTEGER) STRICT; CREATE TABLE receipts (x)")}
	good["schema/801.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE more (x INTEGER) STRICT; ALTER TABLE receipts ADD COLUMN y TEXT NOT NULL DEFAULT 'z'")}
	good["schema/802.sql"] = &fstest.MapFile{Data: []byte("INSERT INTO more VALUES (3)")}
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open1(t, path)
	if _, err := l.Begin(Receipt{Destination: "d"}); err != nil {
		t.Fatal(err)
	}
	if err := l.prepare(broken); err == nil {
		t.Fatal("a migration that cannot be done was done")
	}
	for range 2 {
		if err := l.prepare(good); err != nil {
			t.Fatal(err)
		}
	}
	if l.count(t, "more") != 1 || l.count(t, "receipts WHERE y = 'z'") != 1 {
		t.Error("the migration is not complete")
	}
	l.Close()

	_, err = Open(path)
	newer, ok := errors.AsType[*NewerError](err)
	if !ok || newer.Found != len(known)+2 || newer.Known != len(known) || newer.Path != path {
		t.Fatalf("opening a later version: %v, want *NewerError", err)
	}
	t.Log(err)
}
