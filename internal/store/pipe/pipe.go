// Package pipe is a store that hands each stream to a command of the user's, on
// its standard input: shell://COMMAND. Nothing can be had back from it.
//
//	st, err := pipe.Open(pipe.Options{Command: `gpg -e -r me > "/mnt/usb/$BUTTERSINK_NAME.gpg"`, Notes: l, Log: log})
//	w, err := st.Create(ctx, want)
//
// It knows what a stream says of itself (package stream), how a command is run,
// and what it has been given. It does not know what the command does with a
// stream, and asks nobody but its own notes what is already there.
//
// # The command
//
// It is run once for each stream, as sh -c COMMAND, in the environment and the
// directory of the program, with these variables besides:
//
//	BUTTERSINK_NAME         the snapshot's name, the last element of its path
//	BUTTERSINK_PATH         its path at the source, relative, with slashes
//	BUTTERSINK_UUID         its identity
//	BUTTERSINK_PARENT       that of the snapshot which the stream starts from;
//	                        empty if the stream is full
//	BUTTERSINK_PARENT_PATH  the path under which the command was given that one
//	BUTTERSINK_SIZE         the expected length of the stream in bytes; empty if
//	                        nothing is known of it
//	BUTTERSINK_EXACT        1 if that is the exact length, else empty
//	BUTTERSINK_PROTOCOL     the version of the stream
//
// It begins when the first command of the stream has come and shows that it is
// the stream that was announced. Streams of which none starts from another one
// may be given at the same time, each to a run of its own. What it prints goes to
// the log, line by line. It has no terminal, so it cannot ask for anything.
//
// # What may be relied on
//
//   - The command has taken a stream when it has ended with status 0 after all of
//     the stream was written, and has left none of it unread. Every other end is
//     a failure; after status 75 (EX_TEMPFAIL of sysexits.h) another try may help.
//   - An abandoned command never sees an end of its input that could be taken for
//     the end of the stream: it and all of its process group are sent SIGTERM, and
//     after some seconds SIGKILL, before the pipe is closed. Only where this
//     program is killed itself, the kernel closes the pipe: then the shell is
//     killed too, but not what it has started. A command that writes to its final
//     place can therefore leave the beginning of a stream there, which lacks its
//     END; one that moves it there afterwards (cat > x.tmp && mv x.tmp x) does not,
//     but for the moment between the two.
//     The same goes for what it runs as another user, whom this program may send
//     no signals.
//   - What the command has left running after a success is left alone.
//   - A stream that was taken is noted, and not sent again. The notes go by the
//     text of the command: another text is another store. Who was interrupted
//     between the command's end and the note gives the stream again, so a command
//     has to bear that.
//
// # Offers
//
// An [Offer] is the other way round: a program that is told of one snapshot, and
// says itself what it wants of it.
//
// # Memory
//
// A stream is written as it comes; of what the command prints one line of 4 KiB
// is held. A note takes some 300 bytes.
package pipe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// Notes is where a store notes what its command has been given: texts under
// names, for each place apart. *ledger.Ledger is one.
type Notes interface {
	// Notes returns what is kept for a place, by name.
	Notes(place string) (map[string][]byte, error)
	// Keep keeps data under a name, in place of what was there.
	Keep(place, name string, data []byte) error
	// Forget removes what is kept under a name.
	Forget(place, name string) error
}

// Options say what the store does with a stream.
type Options struct {
	// Command is the text for the shell.
	Command string
	// Env is the environment of the command, besides what names the stream; nil
	// is that of this process.
	Env []string
	// Notes may be nil: then every run gives everything.
	Notes Notes
	// Again has everything given again: once the command has taken a stream,
	// nothing counts any more that earlier runs have given.
	Again bool
	// Log gets what the command prints; nil drops it.
	Log *slog.Logger
}

// Store is one command.
type Store struct {
	o   Options
	log *slog.Logger

	mu      sync.Mutex
	taken   []taken // what the command has been given, as far as it counts
	loaded  bool
	round   int // of what is given now
	renewed bool
}

// Open makes the store of a command. It does not run it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	switch {
	case strings.TrimSpace(o.Command) == "":
		return nil, errors.New("shell:// names no command: want shell://COMMAND")
	case strings.IndexByte(o.Command, 0) >= 0:
		return nil, errors.New("the command has a NUL byte in it")
	}
	if _, err := os.Stat(shell); err != nil {
		return nil, fmt.Errorf("looking for the shell that runs the command: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Env == nil {
		o.Env = os.Environ()
	}
	return &Store{o: o, log: o.Log}, nil
}

// place is under what the notes about the command are kept.
func (s *Store) place() string { return "shell://" + s.o.Command }

// shown is how much of the command people see where it is only named.
const shown = 60

// String names the store by the beginning of its command.
func (s *Store) String() string {
	text := []rune(s.o.Command)
	if len(text) > shown {
		text = append(text[:shown], []rune("...")...)
	}
	return "shell://" + printable(string(text))
}

// List returns what the command has been given, as an archive would: one that
// gives nothing back.
func (s *Store) List(ctx context.Context) (*snapshot.Inventory, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	inv := &snapshot.Inventory{Archive: true, Dir: "/"}
	if err := s.load(inv); err != nil {
		return nil, err
	}
	for _, g := range s.taken {
		stored := snapshot.Stored{Edge: g.edge, Size: snapshot.ExactSize(g.Bytes)}
		if !slices.ContainsFunc(inv.Edges, func(e snapshot.Stored) bool { return e.Edge == g.edge }) {
			inv.Edges = append(inv.Edges, stored)
		}
	}
	inv.Snapshots = snapshots(s.taken)
	return inv, nil
}

// snapshots returns each snapshot that streams lead to, ordered by path. The
// streams are ordered by path.
func snapshots(all []taken) []snapshot.Snapshot {
	var found []snapshot.Snapshot
	number := map[snapshot.ID]int{}
	for _, g := range all {
		one := snapshot.Snapshot{ID: g.edge.To, Path: g.path, Transid: g.Transid, Received: true}
		i, ok := number[g.edge.To]
		if !ok {
			number[g.edge.To] = len(found)
			found = append(found, one)
			continue
		}
		first := &found[i]
		if first.Path != g.path && !slices.ContainsFunc(first.Copies, func(c snapshot.Snapshot) bool { return c.Path == g.path }) {
			first.Copies = append(first.Copies, one)
		}
	}
	return found
}

// Create makes ready for the stream of an edge. The command is run when the
// stream begins.
func (s *Store) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := checkPath(want.Path); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		if err := s.load(nil); err != nil {
			return nil, err
		}
	}
	parentPath := ""
	for _, g := range s.taken {
		switch {
		case g.path == want.Path && g.edge.To != want.Edge.To:
			return nil, &store.ExistsError{Path: printable(want.Path), What: "a snapshot with another identity that the command has been given, " + g.edge.To.Short()}
		case g.path == want.Path && g.edge == want.Edge:
			return nil, &store.ExistsError{Path: printable(want.Path), What: "the same stream, which the command has been given before"}
		case g.edge.To == want.Edge.From:
			parentPath = g.path
		}
	}
	if !want.Edge.IsFull() && parentPath == "" {
		return nil, &store.ParentError{ID: want.Edge.From, Why: "the command has not been given it"}
	}
	return newWriter(ctx, s, want, parentPath), nil
}

// checkPath says why a snapshot can have no such path.
func checkPath(p string) error {
	why := ""
	for c := range strings.SplitSeq(p, "/") {
		if c == "" || c == "." || c == ".." {
			why = "it is not a clean relative path"
		}
	}
	switch {
	case strings.IndexByte(p, 0) >= 0:
		why = "there is a NUL byte in it"
	case snapshot.IsPart(p):
		why = "it ends in " + snapshot.PartSuffix + ", as those of unfinished snapshots do"
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("the path %s of a snapshot is refused: %s", printable(p), why)
}

// Close does nothing: commands end with their writers.
func (s *Store) Close() error { return nil }
