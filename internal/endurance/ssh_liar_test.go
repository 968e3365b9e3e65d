package endurance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/ssh"
	"github.com/buttersink/buttersink/internal/stream"
)

// lieEnv makes the test binary a server that speaks the protocol well and tells
// lies of this name.
const lieEnv = "BUTTERSINK_ENDURANCE_LIE"

// lie is the server, if this process is one.
func lie() {
	name := os.Getenv(lieEnv)
	if name == "" {
		return
	}
	dir := os.Args[len(os.Args)-1]
	err := ssh.Serve(context.Background(), os.Stdin, os.Stdout, ssh.ServeOptions{
		Mode: ssh.Write, Dir: dir, Program: "liar",
		Open: func(context.Context, ssh.Wishes) (store.Store, error) {
			st, err := local.Open(dir, local.Options{})
			return &liar{st, name}, err
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A liar is a directory of which something else is said than there is.
type liar struct {
	*local.Store
	lie string
}

// named are lies about where a snapshot is: the wish to have it somewhere else.
var named = []string{"../escape", "../../escape", "/escape", "x/../../escape", "..", ".", "", "x//y", "x/", "escape.part", "x\x00y", strings.Repeat("y", 5000)}

// List lies about the path of every snapshot.
func (l *liar) List(ctx context.Context) (*snapshot.Inventory, error) {
	inv, err := l.Store.List(ctx)
	if err != nil || !strings.HasPrefix(l.lie, "path ") {
		return inv, err
	}
	var i int
	if _, err := fmt.Sscanf(l.lie, "path %d", &i); err != nil {
		return nil, err
	}
	for n := range inv.Snapshots {
		inv.Snapshots[n].Path = named[i]
	}
	return inv, nil
}

// streams are lies about what a snapshot is. Each gets the stream and whatever
// another snapshot's would be.
var streams = map[string]func(good, other []byte) []byte{
	"another snapshot": func(_, other []byte) []byte { return other },
	"half of it":       func(good, _ []byte) []byte { return good[:len(good)/2] },
	"more behind END":  func(good, _ []byte) []byte { return append(good, good...) },
	"another behind":   func(good, other []byte) []byte { return append(good[:len(good)-10], other[17:]...) },
	"zeros": func(good, _ []byte) []byte {
		clear(good[len(good)/2:][:4096])
		return good
	},
	"climbs":         func(good, _ []byte) []byte { return with(good, climb("../../escape")...) },
	"absolute":       func(good, _ []byte) []byte { return with(good, climb("/tmp/endurance-escape")...) },
	"through a link": func(good, _ []byte) []byte { return with(good, through("../../escape")...) },
	"a far link":     func(good, _ []byte) []byte { return with(good, through("/tmp/endurance-escape")...) },
	"removes": func(good, _ []byte) []byte {
		return with(good, &stream.Command{Kind: stream.RmDir, Path: []byte("..")})
	},
	"moves": func(good, _ []byte) []byte { return with(good, move("../../live-a/file", "stolen")) },
}

func climb(path string) []*stream.Command {
	return []*stream.Command{{Kind: stream.MkFile, Path: []byte(path), Ino: 1 << 40}, {Kind: stream.Write, Path: []byte(path), Data: []byte("gotcha")}}
}

func through(target string) []*stream.Command {
	return []*stream.Command{
		{Kind: stream.Symlink, Path: []byte("link"), PathLink: []byte(target), Ino: 1 << 40},
		{Kind: stream.Write, Path: []byte("link"), Data: []byte("gotcha")},
		{Kind: stream.MkDir, Path: []byte("link/escape"), Ino: 1<<40 + 1},
	}
}

func move(from, to string) *stream.Command {
	return &stream.Command{Kind: stream.Rename, Path: []byte(from), PathTo: []byte(to)}
}

// with puts commands before the END of a stream.
func with(good []byte, commands ...*stream.Command) []byte {
	const end = 10 // a head alone: length, kind, checksum
	b := slices.Clone(good[:len(good)-end])
	for _, c := range commands {
		var err error
		if b, err = stream.Append(b, 1, c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	return append(b, good[len(good)-end:]...)
}

// Open lies about the stream.
func (l *liar) Open(ctx context.Context, r store.Request) (io.ReadCloser, error) {
	change := streams[l.lie]
	if change == nil {
		return l.Store.Open(ctx, r)
	}
	inv, err := l.Store.List(ctx)
	if err != nil {
		return nil, err
	}
	var read [2][]byte
	for _, s := range inv.Snapshots {
		in, err := l.Store.Open(ctx, store.Request{Edge: snapshot.Edge{To: s.ID}})
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(in)
		if err := errors.Join(err, in.Close()); err != nil {
			return nil, err
		}
		i := 1
		if s.ID == r.Edge.To {
			i = 0
		}
		read[i] = text
	}
	return io.NopCloser(bytes.NewReader(change(read[0], read[1]))), nil
}

// Create has an interrupted transfer that never was.
func (l *liar) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	w, err := l.Store.Create(ctx, want)
	if err != nil || l.lie != "never satisfied" {
		return w, err
	}
	return unsatisfied{w}, nil
}

// unsatisfied has always the middle of some other stream.
type unsatisfied struct{ store.Writer }

func (unsatisfied) Resumed() store.Mark { return store.Mark{Offset: 5000, Commands: 7} }

// TestSSHLiar has a far side that speaks the protocol well, and lies. Nothing
// leaves the directory, nothing that looks like a snapshot is none, and no run
// says that it is done.
func TestSSHLiar(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 2, 100_000)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m.server.Install("liar", self)
	tell := func(name string) {
		m.server.Script("buttersink", "#!/bin/sh\nexport "+lieEnv+"='"+name+"'\nexec liar \"$@\"\n")
	}
	tell("the truth")
	m.finish(pulling)
	m.empty()

	// Only one of them is asked for, so that each stream is in full.
	only := func() *run {
		return m.run("sync", "--json", "--decompress", m.url(m.from())+"a0", m.to())
	}
	before := fingerprint(t, m.src)
	for name := range streams {
		t.Run(name, func(t *testing.T) {
			tell(name)
			r := only()
			if code := r.wait(); code != failed && code != partly {
				t.Errorf("it ends with %d:\n%s", code, r.story())
			}
			m.untouched(before)
		})
	}
	for i, name := range named {
		t.Run("named "+fmt.Sprintf("%.20q", name), func(t *testing.T) {
			tell(fmt.Sprintf("path %d", i))
			r := m.pull()
			if code := r.wait(); code == done || code == killed {
				t.Errorf("it ends with %d:\n%s", code, r.story())
			}
			m.untouched(before)
		})
	}
	t.Run("never satisfied", func(t *testing.T) {
		tell("never satisfied")
		m.push().unsuccessful()
		m.clean()
	})
	m.server.Install("buttersink", program)
	m.finish(pulling)
}

// untouched fails the test if anything has come into being outside of where
// snapshots go, or if there is any that looks whole.
func (m *remote) untouched(before string) {
	m.t.Helper()
	if after := fingerprint(m.t, m.src); after != before {
		m.t.Errorf("the source changes:\n%s", changes(before, after))
	}
	found, _ := filepath.Glob(m.dst.Dir + "/*")
	more, _ := filepath.Glob(filepath.Dir(m.dst.Dir) + "/*escape*")
	for _, path := range append(found, more...) {
		if path != m.dst.Path("snaps") {
			m.t.Errorf("%s has been made", path)
		}
	}
	if _, err := os.Lstat("/tmp/endurance-escape"); err == nil {
		m.t.Error("/tmp/endurance-escape has been made")
		_ = os.RemoveAll("/tmp/endurance-escape")
	}
	entries, err := os.ReadDir(m.to())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		m.t.Errorf("%s is there", e.Name())
		_ = tool("btrfs", "subvolume", "delete", filepath.Join(m.to(), e.Name()))
	}
}
