package btrsend_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive/btrsend"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

var first, second, third = snapshot.ID{1, 15: 1}, snapshot.ID{2, 15: 2}, snapshot.ID{3, 15: 3}

// What is stored is what btrsend would have stored: its descriptions, its content,
// its rows.
func TestStoresLikeBtrsend(t *testing.T) {
	keyring(t)
	b := begin(t, &rows{})
	whole, on := made(t, first, snapshot.ID{}, 5<<20), made(t, second, first, 100)
	b.list()
	seen := 0
	b.rows.added = func() { seen = len(b.server.Archives(t, vault)) }
	if err := b.put("2014-01-01", "", whole); err != nil {
		t.Fatal(err)
	}
	if seen != 1 {
		t.Errorf("there were %d archives when the row was added", seen)
	}
	if err := b.put("2014-01-07", "2014-01-01", on); err != nil {
		t.Fatal(err)
	}
	archives := b.server.Archives(t, vault)
	if len(archives) != 2 || archives[0].Description != "btrsend backup for 2014-01-01 (complete)" || archives[1].Description != "btrsend backup for 2014-01-07 (parent = 2014-01-01)" {
		t.Fatalf("the vault has %+v", archives)
	}
	want := []btrsend.Row{
		{ID: 1, Archive: archives[0].ID, Date: "2014-01-01", Size: archives[0].Size, Stream: first.String()},
		{ID: 2, Archive: archives[1].ID, Date: "2014-01-07", Parent: "2014-01-01", Size: archives[1].Size, Stream: second.String()},
	}
	if diff := cmp.Diff(want, b.rows.all); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for i, raw := range [][]byte{whole, on} {
		if got := undone(t, b.server.Content(t, vault, archives[i].ID)); !bytes.Equal(got, raw) {
			t.Errorf("gpg and gunzip make something else of archive %d", i)
		}
	}
	if n := b.server.Count("UploadMultipartPart"); n < 6 {
		t.Errorf("it took %d parts", n)
	}
	if up := b.server.Uploads(t, vault); len(up) > 0 {
		t.Errorf("there are still the uploads %v", up)
	}
	inv := b.list()
	ids := []snapshot.ID{btrsend.ID(archives[0].ID), btrsend.ID(archives[1].ID)}
	if diff := cmp.Diff([]snapshot.Snapshot{{ID: ids[0], Path: "2014-01-01"}, {ID: ids[1], Path: "2014-01-07"}}, inv.Snapshots); diff != "" {
		t.Errorf("snapshots (-want +got):\n%s", diff)
	}
	stored := []snapshot.Stored{
		{Edge: snapshot.Edge{To: ids[0]}, Size: snapshot.ExactSize(archives[0].Size)},
		{Edge: snapshot.Edge{To: ids[1], From: ids[0]}, Size: snapshot.ExactSize(archives[1].Size)},
	}
	if diff := cmp.Diff(stored, inv.Edges); diff != "" {
		t.Errorf("edges (-want +got):\n%s", diff)
	}
}

// What btrsend has left is asked for once, and read when it is there; the streams
// say who they are by what is listed.
func TestReadsWhatBtrsendLeft(t *testing.T) {
	keyring(t)
	b := begin(t, &rows{})
	raw := [][]byte{made(t, first, snapshot.ID{}, 3<<20), made(t, second, first, 100), made(t, third, second, 100)}
	for i, date := range []string{"2014-01-01", "2014-01-07", "2014-02-31"} {
		row := btrsend.Row{Date: date, Size: int64(len(raw[i]))}
		if i > 0 {
			row.Parent = b.rows.all[i-1].Date
		}
		row.Archive = b.server.Put(t, vault, btrsend.Describe(row.Date, row.Parent), old(t, raw[i]))
		if err := b.rows.Add(t.Context(), row); err != nil {
			t.Fatal(err)
		}
	}
	inv := b.list()
	all := edges(inv)
	states := func(ask bool) (words []string) {
		thawings, err := b.store.Thaw(t.Context(), all, store.ThawOptions{Ask: ask, Tier: store.Standard})
		if err != nil {
			t.Fatal(err)
		}
		for i, th := range thawings {
			if th.Edge != all[i] || th.Object != b.rows.all[i].Archive || th.Path != b.rows.all[i].Date {
				t.Errorf("thawing %+v of %+v", th, b.rows.all[i])
			}
			words = append(words, fmt.Sprintf("%s %t %s", th.State, th.Fresh, th.Tier))
		}
		return words
	}
	thrice := func(s string) []string { return []string{s, s, s} }
	for _, step := range []struct {
		ask  bool
		want string
		then time.Duration
	}{
		{false, "cold false ", 0},
		{true, "pending true standard", time.Hour},
		{true, "pending false standard", glaciertest.StandardTime},
		{true, "readable false standard", 0},
	} {
		if diff := cmp.Diff(thrice(step.want), states(step.ask)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if step.want != "readable false standard" {
			if _, err := b.read(all[0]); !errors.Is(err, store.ErrCold) {
				t.Errorf("%s, it is read: %v", step.want, err)
			}
		}
		b.server.Advance(step.then)
		b.open() // another run, on another machine perhaps
		b.list()
	}
	for i, e := range all {
		if n := b.server.Asked(t, vault, b.rows.all[i].Archive); n != 1 {
			t.Errorf("archive %d was asked for %d times", i, n)
		}
		got, err := b.read(e)
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(stream.RewriteAll(stream.NewReader(bytes.NewReader(raw[i])), stream.UUID(e.To), stream.UUID(e.From)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("stream %d is not what it should be (%v)", i, err)
		}
	}
	b.server.Advance(glaciertest.OutputKept + time.Hour)
	b.open()
	b.list()
	if _, err := b.read(all[0]); !errors.Is(err, store.ErrCold) {
		t.Errorf("when the output is gone: %v", err)
	}
}

// A database is lost: the vault's inventory tells what there is, as far as it is
// sure.
func TestWithoutDatabase(t *testing.T) {
	keyring(t)
	b := begin(t, nil)
	raw := made(t, first, snapshot.ID{}, 100)
	put := func(description string) string { return b.server.Put(t, vault, description, old(t, raw)) }
	a := put("btrsend backup for 2014-01-01 (complete)")
	put("btrsend backup for 2014-01-07 (parent = 2014-01-01)")
	put("btrsend backup for 2014-01-14 (parent = 2014-01-07)")
	put("btrsend backup for 2014-01-14 (parent = 2014-01-07)")
	put("btrsend backup for 2014-01-21 (parent = 2014-01-14)")
	put("btrsend backup for 2014-03-01 (parent = 2014-02-21)")
	put("buttersink 1 home/x")
	put("films")
	b.server.Advance(3 * 24 * time.Hour) // until an inventory has been taken
	_, err := b.store.List(t.Context())
	if _, ok := errors.AsType[*store.PendingError](err); !ok {
		t.Fatalf("at first: %v", err)
	}
	b.server.Advance(glaciertest.InventoryTime + time.Minute)
	b.open()
	inv := b.list()
	if n := b.server.Asked(t, vault, ""); n != 1 {
		t.Errorf("the inventory was asked for %d times", n)
	}
	var paths []string
	for _, s := range inv.Snapshots {
		paths = append(paths, s.Path)
	}
	if diff := cmp.Diff([]string{"2014-01-01", "2014-01-07", "2014-03-01"}, paths); diff != "" {
		t.Errorf("backups (-want +got):\n%s", diff)
	}
	warnings := strings.Join(inv.Warnings, "\n")
	for _, want := range []string{"2 archives that are said to be the backup of 2014-01-14", "2014-01-21 is left out", "2014-03-01 cannot be restored", "option database"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("no warning says %q:\n%s", want, warnings)
		}
	}
	var filled rows
	n, more, err := b.store.Recover(t.Context(), &filled)
	if err != nil || n != 3 || len(more) != len(inv.Warnings) {
		t.Errorf("recovered are %d rows, %q, %v", n, more, err)
	}
	if got := fmt.Sprintf("%t %s %s %s", filled.all[0].Archive == a, filled.all[1].Date, filled.all[1].Parent, filled.all[2].Parent); got != "true 2014-01-07 2014-01-01 2014-02-21" {
		t.Errorf("the rows are %+v", filled.all)
	}
	if _, _, err := b.store.Recover(t.Context(), &filled); err == nil || len(filled.all) != 3 {
		t.Errorf("recovered into rows: %v", err)
	}
	if err := b.put("2014-02-01", "", raw); err == nil || !strings.Contains(err.Error(), "database") {
		t.Errorf("something is stored: %v", err)
	}
	if err := b.store.Remove(t.Context(), b.at("2014-01-01")); err == nil || !strings.Contains(err.Error(), "database") {
		t.Errorf("something is removed: %v", err)
	}
	b.thaw()
	if got, err := b.read(snapshot.Edge{To: btrsend.ID(a)}); err != nil || len(got) != len(raw) {
		t.Errorf("reading the first: %d bytes, %v", len(got), err)
	}
}

// What is refused is recorded nowhere, and leaves nothing behind.
func TestRefuses(t *testing.T) {
	keyring(t)
	b := begin(t, &rows{})
	whole, on := made(t, first, snapshot.ID{}, 3<<20), made(t, second, first, 100)
	b.list()
	if err := b.put("2014-01-01", "", whole); err != nil {
		t.Fatal(err)
	}
	rows, archives := b.rows.all, b.server.Archives(t, vault)
	lost := errors.New("the disk is full")
	for name, c := range map[string]struct {
		date, parent string
		raw          []byte
		before       func(t *testing.T)
		want         string
	}{
		"cut off":              {date: "2014-01-07", raw: whole[:len(whole)-10], want: "END"},
		"another parent":       {"2014-01-07", "2014-01-01", made(t, second, third, 100), nil, third.String()},
		"complete instead":     {"2014-01-07", "2014-01-01", whole, nil, "the stream is complete"},
		"an increment instead": {"2014-01-07", "", on, nil, "is to be a complete backup"},
		"a date that is taken": {date: "2014-01-01", raw: whole, want: "a backup of that date"},
		"no date":              {date: "home/2014-01-07", raw: whole, want: "no date"},
		"no day":               {date: "2014-02-31", raw: whole, want: "no day 31"},
		"the vault refuses parts": {date: "2014-01-07", raw: whole, want: "AccessDenied", before: func(*testing.T) {
			b.server.FailAfter(1, 100, 403, "AccessDeniedException", "UploadMultipartPart")
		}},
		"the vault refuses the whole": {date: "2014-01-07", raw: whole, want: "AccessDenied", before: func(*testing.T) {
			b.server.Fail(100, 403, "AccessDeniedException", "CompleteMultipartUpload")
		}},
		"gpg fails":        {date: "2014-01-07", raw: whole, want: "gpg", before: func(t *testing.T) { fakeGPG(t, "cat >/dev/null; exit 2") }},
		"gpg says nothing": {date: "2014-01-07", raw: whole, want: "gpg", before: func(t *testing.T) { fakeGPG(t, "cat >/dev/null") }},
		"the row is not added": {date: "2014-01-07", raw: whole, want: lost.Error(), before: func(t *testing.T) {
			b.rows.failing = lost
			t.Cleanup(func() { b.rows.failing = nil })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.before != nil {
				c.before(t)
			}
			err := b.put(c.date, c.parent, c.raw)
			b.server.Calm()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says %v, and nothing of %q", err, c.want)
			}
			if diff := cmp.Diff(rows, b.rows.all); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(archives, b.server.Archives(t, vault)); diff != "" {
				t.Errorf("archives (-want +got):\n%s", diff)
			}
			if up := b.server.Uploads(t, vault); len(up) > 0 {
				t.Errorf("there are still the uploads %v", up)
			}
		})
	}
	if err := b.put("2014-01-07", "2014-01-01", on); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// fakeGPG has a script take the place of gpg.
func fakeGPG(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gpg"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// Streams that do not fit what is said of them are not given out, as nobody else
// would notice.
func TestReadsOnlyWhatFits(t *testing.T) {
	keyring(t)
	for name, c := range map[string]struct {
		row  btrsend.Row
		data []byte
		want string
	}{
		"an increment": {btrsend.Row{}, old(t, made(t, second, first, 100)), "said to be complete"},
		"a complete":   {btrsend.Row{Parent: "2014-01-01"}, old(t, made(t, second, snapshot.ID{}, 100)), "its stream is complete"},
		"another":      {btrsend.Row{Stream: third.String()}, old(t, made(t, second, snapshot.ID{}, 100)), "that of " + third.String()},
		"on another":   {btrsend.Row{Parent: "2014-01-01"}, old(t, made(t, third, second, 100)), "builds on " + second.String()},
		"no stream":    {btrsend.Row{}, old(t, []byte("films")), "stream"},
		"cut off":      {btrsend.Row{}, old(t, made(t, second, snapshot.ID{}, 100)[:300]), "too early"},
		"half of it":   {btrsend.Row{}, old(t, made(t, second, snapshot.ID{}, 100))[:300], "damaged"},
		"no gpg":       {btrsend.Row{}, []byte("films"), "gpg"},
	} {
		t.Run(name, func(t *testing.T) {
			b := begin(t, &rows{})
			for _, row := range []btrsend.Row{
				{Date: "2014-01-01", Stream: first.String(), Archive: b.server.Put(t, vault, "x", []byte("x"))},
				{Date: "2014-01-07", Archive: b.server.Put(t, vault, "y", c.data), Parent: c.row.Parent, Stream: c.row.Stream},
			} {
				if err := b.rows.Add(t.Context(), row); err != nil {
					t.Fatal(err)
				}
			}
			b.thaw()
			_, err := b.read(edges(b.list())[1])
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says %v, and nothing of %q", err, c.want)
			}
		})
	}
}

func TestRemove(t *testing.T) {
	keyring(t)
	b := begin(t, &rows{})
	for i, date := range []string{"2014-01-01", "2014-02-01", "2014-02-01"} {
		id := b.server.Put(t, vault, btrsend.Describe(date, ""), []byte(fmt.Sprint("archive ", i)))
		if err := b.rows.Add(t.Context(), btrsend.Row{Date: date, Archive: id}); err != nil {
			t.Fatal(err)
		}
	}
	inv := b.list()
	if len(inv.Warnings) != 1 || !strings.Contains(inv.Warnings[0], "several backups of 2014-02-01") {
		t.Errorf("the warnings are %q", inv.Warnings)
	}
	s := b.at("2014-01-01")
	b.server.Fail(1, 403, "AccessDeniedException", "DeleteArchive")
	if err := b.store.Remove(t.Context(), s); err == nil || len(b.rows.all) != 3 {
		t.Errorf("the vault refuses, and there are %d rows: %v", len(b.rows.all), err)
	}
	if err := b.store.Remove(t.Context(), s); err != nil || len(b.rows.all) != 2 || len(b.server.Archives(t, vault)) != 2 {
		t.Errorf("removed: %v, %v", err, b.rows.all)
	}
	if err := b.store.Remove(t.Context(), s); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removed again: %v", err)
	}
	// An archive that is gone takes its row with it.
	b.server.Delete(t, vault, b.rows.all[1].Archive)
	if err := b.store.Remove(t.Context(), b.at("2014-02-01.2")); err != nil || len(b.rows.all) != 1 {
		t.Errorf("without an archive: %v, %v", err, b.rows.all)
	}
	if left := b.server.Archives(t, vault); len(left) != 1 || left[0].ID != b.rows.all[0].Archive {
		t.Errorf("left are %v and %v", left, b.rows.all)
	}
}

// Replies get lost, the vault is busy, connections break: it is stored once, and
// read as it is.
func TestTrouble(t *testing.T) {
	keyring(t)
	b := begin(t, &rows{})
	raw := made(t, first, snapshot.ID{}, 5<<20)
	b.list()
	b.server.Lose(1, "CompleteMultipartUpload")
	b.server.Lose(1, "UploadMultipartPart")
	b.server.Throttle(1, "UploadMultipartPart")
	if err := b.put("2014-01-01", "", raw); err != nil {
		t.Fatal(err)
	}
	b.server.Calm()
	if archives := b.server.Archives(t, vault); len(archives) != 1 || len(b.rows.all) != 1 || archives[0].ID != b.rows.all[0].Archive {
		t.Fatalf("there are %v and %v", archives, b.rows.all)
	}
	b.server.Lose(1, "InitiateJob")
	b.thaw()
	if n := b.server.Asked(t, vault, b.rows.all[0].Archive); n != 1 {
		t.Errorf("it was asked for %d times", n)
	}
	b.server.Cut(3, 1<<20, "GetJobOutput")
	got, err := b.read(edges(b.list())[0])
	if err != nil || len(got) != len(raw) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestBills(t *testing.T) {
	keyring(t)
	b := begin(t, &rows{})
	id := b.server.Put(t, vault, "x", []byte("films"))
	if err := b.rows.Add(t.Context(), btrsend.Row{Date: "2014-01-01", Archive: id, Size: 5}); err != nil {
		t.Fatal(err)
	}
	var all []store.Holding
	for h, err := range b.store.Holdings(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
	want := []store.Holding{{Edge: snapshot.Edge{To: btrsend.ID(id)}, Path: "2014-01-01", Key: id, Class: "GLACIER", Bytes: 5, Since: time.Date(2014, 1, 1, 0, 0, 0, 0, time.UTC)}}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("holdings (-want +got):\n%s", diff)
	}
	if tariff := b.store.Tariff(); tariff.Service != "glacier" || tariff.Class != "GLACIER" || tariff.PartSize != 1<<20 {
		t.Errorf("the tariff is %+v", tariff)
	}
}

func TestInspect(t *testing.T) {
	keyring(t)
	b := begin(t, &rows{})
	if err := b.rows.Add(t.Context(), btrsend.Row{Date: "2014-01-01", Archive: "A"}); err != nil {
		t.Fatal(err)
	}
	b.list()
	ways, err := b.store.Inspect(t.Context(), "2014-01-01", "2014-01-07", "home")
	if err != nil || len(ways) != 2 || !strings.Contains(ways["2014-01-01"], "of that date") || !strings.HasPrefix(ways["home"], snapshot.NoPlace) {
		t.Errorf("in the way are %q, %v", ways, err)
	}
}

func TestDescriptions(t *testing.T) {
	for _, tt := range []struct{ text, date, parent string }{
		{"btrsend backup for 2014-01-01 (complete)", "2014-01-01", ""},
		{"btrsend backup for 2014-01-07 (parent = 2014-01-01)", "2014-01-07", "2014-01-01"},
		{"btrsend backup for 2014-02-31 (complete)", "2014-02-31", ""},
		{text: ""},
		{text: "btrsend backup for "},
		{text: "btrsend backup for 2014-01-01"},
		{text: "btrsend backup for 2014-01-01 (complete) "},
		{text: "btrsend backup for 2014-13-01 (complete)"},
		{text: "btrsend backup for 2014-01-07 (parent = )"},
		{text: "btrsend backup for 2014-01-07 (parent = complete)"},
		{text: "buttersink 1 home"},
	} {
		date, parent, ok := btrsend.ParseDescription(tt.text)
		if date != tt.date || parent != tt.parent || ok != (tt.date != "") {
			t.Errorf("%q is %q, %q, %t", tt.text, date, parent, ok)
		}
	}
}

// FuzzParseDescription looks for descriptions that are read as others.
func FuzzParseDescription(f *testing.F) {
	f.Add("btrsend backup for 2014-01-01 (complete)")
	f.Add("btrsend backup for 2014-01-07 (parent = 2014-01-01)")
	f.Fuzz(func(t *testing.T, text string) {
		if date, parent, ok := btrsend.ParseDescription(text); ok && btrsend.Describe(date, parent) != text {
			t.Errorf("%q is read as %q, %q", text, date, parent)
		}
	})
}
