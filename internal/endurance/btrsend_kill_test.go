package endurance

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/glaciertest"
)

// TestBtrsendKilled kills btrsend at random moments, and at those that matter most.
// What is recorded is there, and whole; the next run completes it, and nothing that
// is not whole stays.
func TestBtrsendKilled(t *testing.T) {
	c := newCellar(t, time.Date(2014, 1, 1, 12, 0, 0, 0, time.UTC))
	c.snapshot("2014-01-01", 100_000)
	c.snapshot("2014-01-07", 10<<20) // three parts
	c.answer("2014-01-01", "c")
	first := c.query("SELECT arn FROM btrsend")
	stream := c.send("2014-01-07", "2014-01-01")

	// How long a run takes, and that it can be made to begin anew.
	again := func() {
		for _, a := range c.server.Archives(t, backupVault) {
			if a.ID != first[0] {
				c.server.Delete(t, backupVault, a.ID)
			}
		}
		c.query("DELETE FROM btrsend WHERE date = '2014-01-07'")
	}
	began := time.Now()
	c.answer("2014-01-07", "i 2014-01-01", "--part-size", "4")
	undisturbed := time.Since(began)
	kills, lost := 0, 0
	kill := func(call *caller, when func()) {
		t.Helper()
		struck := make(chan struct{})
		go func() {
			defer close(struck)
			when()
			_ = call.cmd.Process.Signal(syscall.SIGKILL) // it may be over
		}()
		call.asks()
		code := call.give(stream)
		<-struck
		if code == killed {
			kills++
		} else if code != done {
			t.Errorf("it ends with %d:\n%s", code, call.story())
		}
		lost += c.honest(code == done)
	}
	for range times(t, 6) {
		again()
		life := rand.N(undisturbed)
		kill(c.begin("2014-01-07", "--part-size", "4"), func() { time.Sleep(life) })
	}
	for _, op := range []string{"InitiateMultipartUpload", "UploadMultipartPart", "CompleteMultipartUpload"} {
		again()
		c.server.Forget()
		c.server.Lose(1, op) // what was asked for is done, and nobody hears of it
		call := c.begin("2014-01-07", "--part-size", "4")
		kill(call, func() {
			for c.server.Count(op) == 0 && !call.gone() {
				time.Sleep(time.Millisecond)
			}
		})
		c.server.Calm()
	}
	t.Logf("%d kills, %d archives without a row", kills, lost)
	if lost == 0 {
		t.Error("no archive is without a row; one was completed without anybody hearing of it")
	}
	// The next run, with an archive in the vault that no row tells of.
	c.answer("2014-01-07", "i 2014-01-01", "--part-size", "4")
	c.honest(true)
	c.server.Advance(48 * time.Hour)
	if left := c.server.Uploads(t, backupVault); len(left) > 0 {
		t.Errorf("unfinished: %+v", left)
	}
	// Verifying tells of it; and who has lost the database is told, too.
	if r, code := c.buttersink(c.state, "verify", c.at("database="+c.database)); code != partly {
		t.Errorf("before there is an inventory, verifying ends with %d:\n%s", code, r.story())
	}
	c.server.Advance(glaciertest.InventoryTime)
	r, code := c.buttersink(c.state, "verify", c.at("database="+c.database))
	if code != done {
		t.Errorf("verifying ends with %d:\n%s", code, r.story())
	}
	r.says("an archive that no row of the database tells of")
	r, _ = c.buttersink(c.state, "list", c.at("layout=btrsend"))
	r.says("There are 2 archives that are said to be the backup of 2014-01-07")
}

// honest expects every row to be that of an archive which holds the stream as a
// whole, and returns how many archives have no row.
func (c *cellar) honest(recorded bool) (lost int) {
	c.t.Helper()
	rows := c.query("SELECT arn || '|' || date || '|' || size FROM btrsend")
	if has := strings.Contains(strings.Join(rows, " "), "|2014-01-07|"); recorded && !has {
		c.t.Errorf("it says that it is done, and there is no row: %q", rows)
	}
	for _, a := range c.server.Archives(c.t, backupVault) {
		found := false
		for _, row := range rows {
			found = found || strings.HasPrefix(row, a.ID+"|")
		}
		if !found {
			lost++
		}
	}
	for _, row := range rows {
		part := strings.Split(row, "|")
		data := c.server.Content(c.t, backupVault, part[0])
		if len(data) == 0 {
			c.t.Errorf("%q is in a row, and not in the vault", row)
			continue
		}
		parent := ""
		if part[1] == "2014-01-07" {
			parent = "2014-01-01"
		}
		if !bytes.Equal(piped(c.t, data, "gpg --batch --quiet -d | gunzip"), c.send(part[1], parent)) {
			c.t.Errorf("%q is not what was sent", row)
		}
	}
	return lost
}

// TestBtrsendServerDies has connections break, and the vault's service die at the
// end, without anybody hearing that the archive is there, and come back.
func TestBtrsendServerDies(t *testing.T) {
	c := newCellar(t, time.Date(2014, 1, 1, 12, 0, 0, 0, time.UTC))
	c.snapshot("2014-01-01", 10<<20)
	stream := c.send("2014-01-01", "")
	const op = "CompleteMultipartUpload"
	c.server.CutUp(1, 100_000, "UploadMultipartPart")
	c.server.Lose(1, op)
	call := c.begin("2014-01-01", "--part-size", "4")
	if got := call.asks(); got != "c" {
		t.Fatalf("it asks %q:\n%s", got, call.story())
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		for c.server.Count(op) == 0 && !call.gone() {
			time.Sleep(time.Millisecond)
		}
		c.server.Stop()
		time.Sleep(300 * time.Millisecond)
		c.server.Restart()
	}()
	code := call.give(stream)
	<-back
	if code != done {
		t.Fatalf("it ends with %d:\n%s", code, call.story())
	}
	there := c.server.Archives(t, backupVault)
	if rows := c.query("SELECT arn FROM btrsend"); len(rows) != 1 || len(there) != 1 || rows[0] != there[0].ID {
		t.Fatalf("there are the rows %q, and the archives %+v", rows, there)
	}
	if !bytes.Equal(piped(t, c.server.Content(t, backupVault, there[0].ID), "gpg --batch --quiet -d | gunzip"), stream) {
		t.Error("what is there is not what was sent")
	}
}
