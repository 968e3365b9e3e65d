package endurance

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/glaciertest"
)

// TestBtrsendCarriesOn begins with what btrsend has left, made by the programs that it
// called: the chain goes on, and all of it is restored, with the database and
// without.
func TestBtrsendCarriesOn(t *testing.T) {
	c := newCellar(t, time.Date(2014, 1, 13, 12, 0, 0, 0, time.UTC))
	dates := []string{"2014-01-01", "2014-01-07", "2014-01-14", "2014-01-21"}
	for _, date := range dates {
		c.snapshot(date, 300_000)
	}
	c.old(dates[0], "")
	c.old(dates[1], dates[0])

	r, code := c.buttersink(c.state, "list", c.at("database="+c.database))
	if code != done {
		t.Fatalf("listing ends with %d:\n%s", code, r.story())
	}
	table := c.query("SELECT sql FROM sqlite_master WHERE name = 'btrsend'")
	if diff := cmp.Diff([]string{oldTable}, table); diff != "" {
		t.Error(diff)
	}
	c.answer(dates[2], "i "+dates[1])
	c.answer(dates[2], "")
	c.server.Advance(7 * 24 * time.Hour)
	c.answer("2014-01-20", "")
	c.answer(dates[3], "i "+dates[2])
	rows := []string{"1|2014-01-01|", "2|2014-01-07|2014-01-01", "3|2014-01-14|2014-01-07", "4|2014-01-21|2014-01-14"}
	if diff := cmp.Diff(rows, c.query("SELECT id || '|' || date || '|' || IFNULL(parent, '') FROM btrsend ORDER BY date(date)")); diff != "" {
		t.Error(diff)
	}
	for _, a := range c.server.Archives(t, backupVault) {
		if got := c.query("SELECT size FROM btrsend WHERE arn = ?", a.ID); len(got) != 1 {
			t.Errorf("%s is in the rows as %q", a.Description, got)
		}
	}

	// With the database: asked for, and there half a day later, on another machine.
	fs := c.place()
	back := []string{c.at("database=" + c.database), fs.Path("back") + "/"}
	for range 2 {
		if r, code = c.buttersink(c.state, back...); code != waiting {
			t.Fatalf("it ends with %d:\n%s", code, r.story())
		}
	}
	c.server.Advance(glaciertest.BulkTime)
	if r, code = c.buttersink(t.TempDir(), back...); code != done {
		t.Fatalf("it ends with %d:\n%s", code, r.story())
	}
	c.restored(fs, dates...)
	c.askedFor(1, 1, 1, 1)
	if r, code = c.buttersink(t.TempDir(), back...); code != done {
		t.Fatalf("with all of it there it ends with %d:\n%s", code, r.story())
	}
	c.askedFor(1, 1, 1, 1)

	// One of them, and what it builds on, into an archive of another kind; and out of
	// that.
	c.server.Advance(4 * 24 * time.Hour)
	archive := "dir://" + t.TempDir() + "/"
	if r, code = c.buttersink(c.state, "init", archive); code != done {
		t.Fatalf("it ends with %d:\n%s", code, r.story())
	}
	for _, want := range []int{waiting, done} {
		if r, code = c.buttersink(c.state, "glacier://"+backupVault+"/"+dates[2]+"?database="+c.database, archive); code != want {
			t.Fatalf("it ends with %d, want %d:\n%s", code, want, r.story())
		}
		c.server.Advance(glaciertest.BulkTime)
	}
	fs = c.place()
	if r, code = c.buttersink(c.state, archive, fs.Path("back")+"/"); code != done {
		t.Fatalf("it ends with %d:\n%s", code, r.story())
	}
	c.restored(fs, dates[:3]...)
	c.askedFor(2, 2, 2, 1)

	// Without: the inventory is asked for first.
	c.server.Advance(4 * 24 * time.Hour)
	fs = c.place()
	back = []string{c.at("layout=btrsend"), fs.Path("back") + "/"}
	for _, wait := range []time.Duration{time.Hour, glaciertest.InventoryTime, time.Hour, glaciertest.BulkTime} {
		if r, code = c.buttersink(c.state, back...); code != waiting {
			t.Fatalf("it ends with %d:\n%s", code, r.story())
		}
		c.server.Advance(wait)
	}
	if r, code = c.buttersink(c.state, back...); code != done {
		t.Fatalf("it ends with %d:\n%s", code, r.story())
	}
	c.restored(fs, dates...)
	c.askedFor(3, 3, 3, 2)
	if n := c.server.Asked(t, backupVault, ""); n != 1 {
		t.Errorf("the inventory was asked for %d times", n)
	}
}

// waiting is the exit code of a run that has to be made again later on.
const waiting = 5

// askedFor expects the archives, the oldest first, to have been asked for so many
// times.
func (c *cellar) askedFor(times ...int) {
	c.t.Helper()
	for i, a := range c.server.Archives(c.t, backupVault) {
		if n := c.server.Asked(c.t, backupVault, a.ID); n != times[i] {
			c.t.Errorf("%q was asked for %d times, want %d", a.Description, n, times[i])
		}
	}
}

// TestBtrsendRivals has several runs begin at once: one of them asks, and the others
// are turned away before they say anything.
func TestBtrsendRivals(t *testing.T) {
	c := newCellar(t, time.Date(2014, 1, 1, 12, 0, 0, 0, time.UTC))
	c.snapshot("2014-01-01", 100_000)
	stream := c.send("2014-01-01", "")
	var calls []*caller
	for range 5 {
		calls = append(calls, c.begin("2014-01-01"))
	}
	var asking *caller
	for _, call := range calls {
		switch line := call.asks(); {
		case line == "c" && asking == nil:
			asking = call
		case line != "":
			t.Errorf("another one asks %q", line)
		default:
			if code := call.give(nil); code != locked {
				t.Errorf("it ends with %d:\n%s", code, call.story())
			}
		}
	}
	if asking == nil {
		t.Fatal("none of them asks")
	}
	if code := asking.give(stream); code != done {
		t.Errorf("it ends with %d:\n%s", code, asking.story())
	}
	if rows, there := c.query("SELECT arn FROM btrsend"), c.server.Archives(t, backupVault); len(rows) != 1 || len(there) != 1 || rows[0] != there[0].ID {
		t.Errorf("there are the rows %q, and the archives %+v", rows, there)
	}
}
