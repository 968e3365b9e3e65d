// Package bare is the store of snapshots in a btrfs directory of another machine
// that has nothing of ours: only ssh, a POSIX shell and btrfs-progs.
//
// It knows which command lines do what there, and how to read what they print.
// How the other machine is reached is the business of package dial. What is
// installed there besides, what its login shell is, and what time it has do not
// matter: scripts go to the standard input of "sh -s", and are written for dash
// and for the ash of busybox.
//
// # What runs on the other machine
//
// DIR is the directory of the store, PATH a snapshot or a directory below it, ID
// and INODE are numbers. Each of these is one command line, with "sudo" before it
// where that is due (dial.Target.Sudo), and every path is absolute:
//
//	btrfs send [--proto 2] [-p PATH] PATH         pull: its output is the stream
//	btrfs send --no-data PATH                     push from what was made there: its beginning
//	btrfs receive DIR or PATH                     push: its input is the stream
//	mkdir -p PATH                                 push into a directory that is not there yet
//	btrfs subvolume delete PATH [PATH...]         what an interrupted push has left
//
// These are run by scripts, one script for each connection, "sh -s" being what ssh
// is asked to start:
//
//	btrfs --version                               without sudo
//	ls -di DIR/.                                  listing: these seven
//	btrfs inspect-internal rootid DIR
//	btrfs inspect-internal inode-resolve INODE DIR
//	btrfs subvolume list -r DIR
//	btrfs subvolume list -pcguqR DIR
//	btrfs subvolume show -r ID DIR
//	btrfs inspect-internal subvolid-resolve ID DIR
//	ls -1ap PATH                                  before a push: what is in the way
//	btrfs inspect-internal rootid PATH            push below DIR: these two
//	btrfs subvolume show -r ID PATH
//	btrfs subvolume show PATH                     push, pull of received snapshots, and removing
//	btrfs filesystem sync DIR or PATH             push: these two, when all has been received
//	mv PATH PATH                                  from NAME_XXXXXXXX.part to NAME
//	btrfs subvolume delete PATH                   removing, and a push that has failed
//	btrfs property set [-f] -ts PATH ro false     Options.MakeWritable; then the deletion
//	btrfs property set -ts PATH ro true           again, and this if that fails, too
//	btrfs subvolume sync DIR                      waiting for space, behind a filesystem sync
//
// And these for backups, OF being the subvolume that they are of, and NOTE one of
// the two files of store.Notebook in DIR:
//
//	ls -di OF/.                                   which one it is: these three
//	btrfs inspect-internal rootid OF
//	btrfs subvolume show OF
//	btrfs subvolume snapshot -r OF PATH           a snapshot, then filesystem sync and show
//	ls -ld NOTE                                   a note: these, cat to read it, then
//	cat NOTE                                      the others to write it
//	cmp -s NOTE -
//	cp -p NOTE or /dev/null NOTE_XXXXXXXX.part
//	tee NOTE_XXXXXXXX.part
//	mv -f NOTE_XXXXXXXX.part NOTE
//	rm -f NOTE NOTE_XXXXXXXX.part
//	ls -d PATH/.                                  Options.MakeDir: what of DIR is there,
//	btrfs inspect-internal rootid PATH            whether that is on btrfs
//	mkdir -p DIR
//
// Of other programs only those of POSIX run, without sudo: sh, grep, sed, sort
// and head, and flock where it is there. A listing is one connection, a pull one, a push three: a look at what
// is there now, btrfs receive, and what follows it.
//
// # What may be relied on
//
//   - A push goes to a subvolume with a name of its own, NAME_XXXXXXXX.part with
//     random digits. It gets its name when btrfs receive has ended well, the whole
//     stream has been written, everything is on the disk there, and the subvolume is
//     read-only and has the received UUID of the stream. Whatever else happens
//     leaves at most a ".part", which List names and never takes for a snapshot. Only
//     the name says that it is ours; nothing else is ever deleted unasked.
//   - What stands at the end of the pipe is never a whole command until END is sent,
//     so that a receiver which takes an end of input for the end of the stream does
//     not finish one that was cut.
//   - No snapshot is overwritten: mv cannot move a read-only subvolume into a directory
//     that has come to be at its place.
//   - A note is replaced as a whole, by mv, and only while it is what was read.
//     btrfs-backup's keeps its owner and its mode.
//   - Names may have any bytes. A name with a newline in it could pass for a line of
//     the listing; where there is one, all paths are asked for one by one, which
//     costs a second connection.
//
// # What it cannot do
//
// What btrfs-progs do not tell is not known. The last change of a snapshot: what
// is read-only is taken to be as it was made or received, so that one which was
// made writable, changed and made read-only again passes for the old one, where
// btrfs-progs before 5.14.2 did it (later ones take the received UUID away), or
// where it was made there; of the latter, the streams that start from it tell
// (package transfer), and Create looks at those that others are to start from. The transaction number of the identity of snapshots
// that were made there: snapshot.Snapshot.Transid is zero. Increments have what the
// kernel puts into them, and store/local puts right, wrong too: the end of a file
// that was cut short and got it back through a reflink.
//
// Transfers are not carried on, sizes are not known, snapshots outside of the
// directory are not used, and directories that have become empty stay. There is no
// lock: two clients that push the same snapshot at once disturb one another, and
// one of them, or both, fail.
//
// # Memory
//
// A listing costs about 1 KiB for each subvolume of the file system. A transfer
// holds what is written at a time.
//
//	st, err := bare.Open(ctx, bare.Options{Target: dial.Target{Host: "backup"}, Dir: "/mnt/b/snaps", Writes: true})
//	inv, err := st.List(ctx)
package bare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"

	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// ErrReadOnly is wrapped by the refusal to change anything through a store that
// was opened without Options.Writes.
var ErrReadOnly = errors.New("it has been opened for reading only")

// ErrNotDirectory is wrapped where the store's directory is not there.
var ErrNotDirectory = errors.New("not an existing directory")

// Options say where a store is, and how it works.
type Options struct {
	// Target is the other machine.
	Target dial.Target
	// Dir is the absolute path of the directory there.
	Dir string
	// Writes allows what changes something.
	Writes bool
	// Of is the absolute path of the subvolume there of which Snapshot makes
	// snapshots; empty if none are to be made.
	Of string
	// MakeDir has the first call that finds the directory missing make it, if Writes
	// is set.
	MakeDir bool
	// MakeWritable has snapshots made writable before they are removed, for users
	// who may not remove read-only ones.
	MakeWritable bool
	// Protocol is the version of the streams that Open asks for: 1, which 0 stands
	// for too, or 2, which btrfs-progs 6.0 and Linux 6.0 can make.
	Protocol uint32
	// Limit keeps streams below a rate. Nil is no limit.
	Limit *pace.Limiter
	// Log gets what an operator may want to know; nil is silence.
	Log *slog.Logger
}

// Store is a directory of another machine. Its methods may be called at the same
// time; each makes connections of its own.
type Store struct {
	name string // for people
	dir  string // clean, absolute
	opt  Options
	link link
	sudo bool

	mu      sync.Mutex
	known   map[snapshot.ID]*snapshot.Snapshot // of the last List, and what came since
	shown   map[snapshot.ID]uint64             // by UUID: the transaction number that came with it
	asked   map[uint64]bool                    // by number: shown has it
	release string                             // of the btrfs-progs there, "6.2"
	prefix  string                             // path of the directory from the top level
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Source    = (*Store)(nil)
	_ store.Chooser   = (*Store)(nil)
	_ store.Sink      = (*Store)(nil)
	_ store.Inspector = (*Store)(nil)
	_ store.Remover   = (*Store)(nil)

	_ store.Snapshotter = (*Store)(nil)
	_ store.Notebook    = (*Store)(nil)
	_ store.Reclaimer   = (*Store)(nil)
	_ store.Leftovers   = (*Store)(nil)
)

// Open prepares a store. It makes no connection: what is wrong with the other
// machine is found by List.
func Open(ctx context.Context, o Options) (*Store, error) {
	sudo, err := o.Target.Sudoes(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening %s on %s: %w", o.Dir, o.Target.Host, err)
	}
	where := o.Target.Host
	if strings.Contains(where, ":") {
		where = "[" + where + "]"
	}
	if o.Target.User != "" {
		where = o.Target.User + "@" + where
	}
	if o.Target.Port != 0 {
		where = fmt.Sprintf("%s:%d", where, o.Target.Port)
	}
	if o.Target.Log != nil {
		o.Target.Log = slog.New(quiet{o.Target.Log.Handler()})
	}
	return open(o, where, sudo, sshLink{o.Target})
}

func open(o Options, where string, sudo bool, l link) (*Store, error) {
	if !path.IsAbs(o.Dir) || strings.ContainsRune(o.Dir, 0) {
		return nil, fmt.Errorf("opening %q on %s: not an absolute path", o.Dir, where)
	}
	if o.Of != "" && (!path.IsAbs(o.Of) || strings.ContainsRune(o.Of, 0)) {
		return nil, fmt.Errorf("opening %s on %s: the subvolume %q is not an absolute path", o.Dir, where, o.Of)
	}
	if o.Protocol > 2 {
		return nil, fmt.Errorf("opening %s on %s: btrfs send is not asked for protocol %d", o.Dir, where, o.Protocol)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	// The path stays as it was typed, but for slashes at its end: x/../y need not
	// be y where x is a symbolic link.
	dir := strings.TrimRight(o.Dir, "/")
	return &Store{
		name: "ssh+btrfs://" + where + dir + "/", dir: dir, opt: o, link: l, sudo: sudo,
		known: map[snapshot.ID]*snapshot.Snapshot{}, shown: map[snapshot.ID]uint64{}, asked: map[uint64]bool{},
	}, nil
}

// String names the store for people.
func (s *Store) String() string { return s.name }

// Close does nothing: no connection outlives the call that made it.
func (s *Store) Close() error { return nil }

// at returns the absolute path on the other machine of a path below the
// directory.
func (s *Store) at(rel string) string {
	if rel == "." || rel == "" {
		return s.root()
	}
	return s.dir + "/" + rel
}

// root is the directory itself.
func (s *Store) root() string {
	if s.dir == "" {
		return "/"
	}
	return s.dir
}

// Choose implements store.Chooser.
func (s *Store) Choose(id snapshot.ID, path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if snap, ok := s.known[id]; ok {
		if chosen, ok := snap.Preferring(path); ok {
			s.known[id] = &chosen
			return nil
		}
	}
	return fmt.Errorf("%s: %w: %s at %s", s, store.ErrNotFound, id, path)
}

// lookup returns a snapshot of the last listing, or one that came since.
func (s *Store) lookup(id snapshot.ID) (snapshot.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, ok := s.known[id]
	if !ok {
		return snapshot.Snapshot{}, fmt.Errorf("%s: %w: %s", s, store.ErrNotFound, id)
	}
	return *snap, nil
}

// writable refuses what changes something where that was not asked for.
func (s *Store) writable(doing, p string) error {
	if !s.opt.Writes {
		return fmt.Errorf("%s %s: %w", doing, s.at(p), ErrReadOnly)
	}
	return nil
}
