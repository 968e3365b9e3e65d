package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// ErrNoProgram is wrapped by what Open returns where the other machine can be
// reached, and has no buttersink.
var ErrNoProgram = dial.ErrNoProgram

// ErrOld is wrapped by what Open returns where the other machine has a ButterSink
// that was written in Python.
var ErrOld = errOldPeer

// ErrNoDirectory is wrapped by what Open returns where there is no such directory on
// the other machine.
var ErrNoDirectory = errors.New("not an existing directory")

// Options say where a store is, and how it is reached.
type Options struct {
	// Target is the machine.
	Target dial.Target
	// Dir is the directory there, as the server gets it on its command line.
	Dir string
	// Mode is what the server is asked to allow; Read if it is empty.
	Mode Mode
	// Of is the full path of the subvolume there of which Snapshot makes snapshots;
	// empty if none are to be made.
	Of string
	// MakeDir has the directory made if it is not there, and Mode is not Read.
	MakeDir bool
	// MakeWritable lets the server make snapshots writable to remove them, as
	// local.Options has it, if Mode is Write.
	MakeWritable bool
	// Wishes are what the server is asked for besides.
	Wishes Wishes
	// Program is the version of this program, for the other side's messages.
	Program string
	// RemoteProgram is how buttersink is called on the other machine; "buttersink" if
	// it is empty.
	RemoteProgram string
	// Compress lets both sides compress what they send.
	Compress bool
	// Limit bounds how fast bytes are sent and taken; nil does not.
	Limit *pace.Limiter
	// Heartbeat and Silence are those of wire.Options.
	Heartbeat, Silence time.Duration
	// Log takes what is worth knowing; nil is none. It is the Target's, too, if that
	// has none.
	Log *slog.Logger
	// Dial is used in place of ssh, if it is set. What it returns may have a method
	// Wait() error, which tells at the end of the connection what went wrong. Close
	// has to end reads and writes, and may wait for the other side to come to its
	// end.
	Dial func(ctx context.Context) (io.ReadWriteCloser, error)

	// These are for tests; zero is what is described at waits.
	waits waits
}

// waits are how long is waited for what ought to come.
type waits struct {
	// greeting: people may have to type a password for ssh first; 3 minutes.
	greeting time.Duration
	// settle: for the other side to undo what was given up; 1 minute.
	settle time.Duration
	// lock: for what is left of a broken session to give its lock back, besides the
	// Silence after which it notices; 1 minute.
	lock time.Duration
	// between is what is waited between tries to get the lock back; 1 s.
	between time.Duration
}

// Store is a directory of another machine. All its calls go through one
// connection at a time. When it is lost, what was under way fails with an error
// that is store.Temporary, and the next call connects again and restores what the
// server has to know: the locks, the listing, what was chosen. It may be used by
// several goroutines.
type Store struct {
	opt  Options
	log  *slog.Logger
	name string
	host string // for errors

	// gate is held by who connects or changes what a new connection restores.
	gate chan struct{}

	mu       sync.Mutex // guards what is below
	session  *session
	closed   bool
	greeting greeting         // the server's first
	locks    map[string]*lock // which are held, by their calls
	listed   bool
	chosen   map[snapshot.ID]string
}

var _ interface {
	store.Store
	store.Continuer
	store.Chooser
	store.Sink
	store.Inspector
	store.Copier
	store.Remover
	store.Measurer
	store.Prover
	store.Locker
	store.Located
	store.SizeKeeper
	store.Snapshotter
	store.TakeLocker
	store.Notebook
	store.Reclaimer
	store.Leftovers
} = (*Store)(nil)

// Open connects to a machine and has a server started there for the directory.
// Among its errors are those of dial, ErrNoProgram and ErrOld.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Mode == "" {
		o.Mode = Read
	}
	if o.RemoteProgram == "" {
		o.RemoteProgram = "buttersink"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Target.Log == nil {
		o.Target.Log = o.Log
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 10 * time.Second
	}
	if o.Silence <= 0 {
		o.Silence = time.Minute
	}
	or := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	or(&o.waits.greeting, 3*time.Minute)
	or(&o.waits.settle, time.Minute)
	or(&o.waits.lock, time.Minute)
	or(&o.waits.between, time.Second)
	s := &Store{
		opt: o, log: o.Log, name: nameOf(o.Target, o.Dir), host: o.Target.Host,
		gate: make(chan struct{}, 1), chosen: map[snapshot.ID]string{}, locks: map[string]*lock{},
	}
	if s.host == "" {
		s.host = "the other side"
	}
	first, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	s.session, s.greeting = first, first.greeting
	return s, nil
}

// nameOf returns the URL of a directory.
func nameOf(t dial.Target, dir string) string {
	host := t.Host
	switch {
	case t.Port != 0:
		host = net.JoinHostPort(host, strconv.Itoa(t.Port))
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	if t.User != "" {
		host = t.User + "@" + host
	}
	return "ssh://" + host + dir
}

// String returns the store's URL.
func (s *Store) String() string { return s.name }

// Location is what the server says of its directory, so that it is found to be
// the same place as one that is reached in another way.
func (s *Store) Location() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.greeting.Location == "" {
		return s.name
	}
	return string(s.greeting.Location)
}

// Form is that of the streams that the server makes.
func (s *Store) Form(r store.Request) string {
	s.mu.Lock()
	form := s.greeting.Forms[0]
	if !r.Edge.IsFull() {
		form = s.greeting.Forms[1]
	}
	s.mu.Unlock()
	return store.FormWithClones(form, r.Clones)
}

// Close says goodbye to the server, which abandons what has not been committed, and
// waits for it to come to its end.
func (s *Store) Close() error {
	s.mu.Lock()
	session := s.session
	s.closed, s.session = true, nil
	clear(s.locks)
	s.mu.Unlock()
	if session != nil {
		session.close()
	}
	return nil
}

// errClosed is what a store answers that has been closed.
var errClosed = errors.New("it has been closed")

// current returns the connection, and makes a new one where it has been lost.
func (s *Store) current(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if session, err := s.living(); session != nil || err != nil {
		return session, err
	}
	select {
	case s.gate <- struct{}{}:
		defer func() { <-s.gate }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if session, err := s.living(); session != nil || err != nil {
		return session, err
	}
	s.log.Info("connecting again", "store", s.name)
	next, err := s.connect(ctx)
	if err == nil {
		if err = s.restore(ctx, next); err != nil {
			next.close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to %s again: %w", s.name, err)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		next.close()
		return nil, fmt.Errorf("%s: %w", s.name, errClosed)
	}
	s.session = next
	s.mu.Unlock()
	return next, nil
}

// living returns the connection, if there is one that has not ended. What is left
// of one that has is cleared away.
func (s *Store) living() (*session, error) {
	s.mu.Lock()
	session := s.session
	if s.closed {
		s.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", s.name, errClosed)
	}
	if session == nil || !session.over() {
		s.mu.Unlock()
		return session, nil
	}
	s.session = nil
	s.mu.Unlock()
	session.close()
	return nil, nil
}

// restore tells a new server what the one before it knew. Nobody else talks to it
// yet.
func (s *Store) restore(ctx context.Context, next *session) error {
	s.mu.Lock()
	before, listed := s.greeting.Location, s.listed
	held := []*lock{s.locks[callLock], s.locks[callLockTaking]} // in this order
	chosen := make(map[snapshot.ID]string, len(s.chosen))
	for id, p := range s.chosen {
		chosen[id] = p
	}
	s.mu.Unlock()
	if next.greeting.Location != before {
		return errors.New("another file system is at the place of the directory by now; is it mounted?")
	}
	for _, l := range held {
		if l == nil {
			continue
		}
		if err := s.relock(ctx, next, l); err != nil {
			return err
		}
	}
	if listed {
		if _, err := next.list(ctx); err != nil {
			return err
		}
	}
	for id, p := range chosen {
		// One that is gone is met where it is asked for, if it is.
		if _, err := next.ask(ctx, request{Call: callChoose, ID: id, Path: path(p)}); err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("choosing %s again: %w", p, err)
		}
	}
	return nil
}

// words are the command line of the server. Rules in sudoers and authorized_keys
// files name it: what was not asked for is not in it.
func (o *Options) words() []string {
	words := []string{o.RemoteProgram, "--server", "--mode", string(o.Mode)}
	if o.Of != "" {
		words = append(words, "--of", o.Of)
	}
	if o.MakeDir && o.Mode != Read {
		words = append(words, "--make-dir")
	}
	if o.MakeWritable && o.Mode == Write {
		words = append(words, "--convert-rw")
	}
	return append(words, o.Dir)
}

// process is a server that ssh has started.
type process struct{ *dial.Process }

func (p process) Read(b []byte) (int, error)  { return p.Stdout.Read(b) }
func (p process) Write(b []byte) (int, error) { return p.Stdin.Write(b) }

// dial starts a server. What it gives lives as long as lasting does.
func (s *Store) dial(lasting context.Context) (io.ReadWriteCloser, error) {
	if s.opt.Dial != nil {
		return s.opt.Dial(lasting)
	}
	p, err := dial.Start(lasting, s.opt.Target, s.opt.words()...)
	if err != nil {
		return nil, err
	}
	return process{p}, nil
}
