package bare

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// Create looks at the other machine, makes the directories on the way, deletes
// what an interrupted push of the same snapshot has left, and starts btrfs receive.
func (s *Store) Create(ctx context.Context, want store.Want) (store.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.writable("creating", want.Path); err != nil {
		return nil, err
	}
	if !usable(want.Path) {
		return nil, fmt.Errorf("creating %q in %s: not a usable path for a snapshot", want.Path, s.name)
	}
	v, err := s.look(ctx, false, ancestors([]string{want.Path})...)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", s.at(want.Path), err)
	}
	if what := s.inTheWay(v, want.Path); what != "" {
		if sub, ok := v.at(want.Path); ok && sub.readOnly && sub.identity() == want.Edge.To {
			what = "the snapshot itself, which another run has brought there meanwhile" // nothing is locked
		}
		return nil, &store.ExistsError{Path: s.at(want.Path), What: what}
	}
	parent, err := s.checkParent(v, want)
	if err != nil {
		return nil, err
	}
	if err := s.checkOriginal(ctx, v, parent, want); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx, v, want.Path); err != nil {
		return nil, fmt.Errorf("creating %s: %w", s.at(want.Path), err)
	}
	dir := path.Dir(want.Path)
	w := &writer{ctx: ctx, store: s, want: want, dir: dir, part: path.Join(dir, partName(path.Base(want.Path))), protocol: receives(v.release)}
	if w.process, err = s.link.start(ctx, "btrfs", "receive", s.at(dir)); err != nil {
		return nil, fmt.Errorf("creating %s: %w", s.at(want.Path), failed(ctx, err, nil))
	}
	w.out = s.opt.Limit.Writer(ctx, w.process.Input())
	return w, nil
}

// partName is the name under which a snapshot is received. It is another one each
// time: what is left of an earlier receive may still be running there.
func partName(name string) string {
	var random [4]byte
	_, _ = rand.Read(random[:])
	return name + "_" + hex.EncodeToString(random[:]) + snapshot.PartSuffix
}

// isRemainder reports whether a name is one that partName makes for a snapshot.
func isRemainder(part, name string) bool {
	middle, ok := strings.CutPrefix(part, name+"_")
	if !ok {
		return false
	}
	middle, ok = strings.CutSuffix(middle, snapshot.PartSuffix)
	_, err := hex.DecodeString(middle)
	return ok && err == nil && len(middle) == 8
}

// receives is the highest version of a stream that a release of btrfs-progs can
// receive.
func receives(release string) uint32 {
	major, _, _ := strings.Cut(release, ".")
	if n, err := strconv.Atoi(major); err == nil && n >= 6 {
		return 2
	}
	return 1
}

// Receives returns the highest version of a stream that the other machine can
// receive: 2 from btrfs-progs 6.0 on, else 1. It makes a connection if nothing has
// been listed yet.
func (s *Store) Receives(ctx context.Context) (uint32, error) {
	s.mu.Lock()
	release := s.release
	s.mu.Unlock()
	if release == "" {
		v, err := s.look(ctx, false)
		if err != nil {
			return 0, fmt.Errorf("asking %s for its btrfs-progs: %w", s.name, err)
		}
		release = v.release
	}
	return receives(release), nil
}

// checkParent finds what btrfs receive will start from. It takes any subvolume of
// the file system that has the parent's identity as its received UUID, else the one
// that has it as its own, so that none of them may be something unfinished. It
// returns the one or, of several, the last.
func (s *Store) checkParent(v *view, want store.Want) (parent *subvolume, err error) {
	if want.Edge.IsFull() {
		return nil, nil
	}
	bad := func(at, why string) (*subvolume, error) {
		return nil, &store.ParentError{ID: want.Edge.From, Path: at, Why: why}
	}
	var found []*subvolume
	for i := range v.all {
		if v.all[i].received == want.Edge.From {
			found = append(found, &v.all[i])
		}
	}
	for i := range v.all {
		if len(found) == 0 && v.all[i].uuid == want.Edge.From {
			found = append(found, &v.all[i])
		}
	}
	if len(found) == 0 {
		return bad("", "is not there")
	}
	for _, sub := range found {
		at := s.where(v, sub)
		switch {
		case !sub.readOnly:
			return bad(at, "is writable")
		case inPart(sub.path):
			return bad(at, "is what an interrupted receive has left, and has the parent's identity: remove it (list -d), since btrfs receive may start from it")
		}
		parent = sub
	}
	return parent, nil
}

// where is the path of a subvolume for people.
func (s *Store) where(v *view, sub *subvolume) string {
	if rel, inside := v.below(sub.path); inside {
		return s.at(rel)
	}
	return "<top level>/" + sub.path
}

// prepare makes the directories on the way to a path, and deletes what is left of
// earlier receives for it.
func (s *Store) prepare(ctx context.Context, v *view, p string) error {
	dir, name := path.Dir(p), path.Base(p)
	if err := s.ready(ctx, v, dir); err != nil {
		return err
	}
	var left []string
	for i := range v.all {
		sub := &v.all[i]
		if rel, inside := v.below(sub.path); inside && path.Dir(rel) == dir && isRemainder(path.Base(rel), name) && !isForeignPart(sub, rel) {
			left = append(left, s.at(rel))
		}
	}
	if len(left) > 0 {
		if _, err := s.run(ctx, append([]string{"btrfs", "subvolume", "delete"}, left...)...); err != nil {
			return err
		}
	}
	return nil
}

// checkDirectory makes sure that a directory is in the subvolume in which it seems
// to be: nothing is received into what is mounted there. The number of the subvolume
// does not tell one file system from another, but its UUID does, or that of others.
func (s *Store) checkDirectory(ctx context.Context, v *view, dir string) error {
	in := v.subvol
	for d := dir; d != "."; d = path.Dir(d) {
		if sub, ok := v.at(d); ok {
			in = sub.id
			break
		}
	}
	c := s.script()
	c.must("rootid", c.words("btrfs", "inspect-internal", "rootid", s.at(dir)))
	var here, root []string
	for _, sub := range v.witnesses(in) {
		show := []string{"btrfs", "subvolume", "show", "-r", strconv.FormatUint(sub.id, 10)}
		here, root = append(here, c.has(sub.uuid, append(show, s.at(dir))...)), append(root, c.has(sub.uuid, append(show, s.root())...))
	}
	if len(here) > 0 { // what is not told of the directory of the store either says nothing
		c.section("same", strings.Join(here, " || ")+" || ! { "+strings.Join(root, " || ")+"; }")
	}
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return err
	}
	if got := sections["rootid"]; got.status != 0 {
		return &commandError{"btrfs inspect-internal rootid", got, said}
	} else if strings.TrimSpace(got.out) != strconv.FormatUint(in, 10) || sections["same"].status != 0 {
		return &store.ExistsError{Path: s.at(dir), What: "something that is mounted there"}
	}
	return nil
}

// witnesses are subvolumes by which the file system can be told: the one of that
// number, or a few, of which some may be deleted meanwhile.
func (v *view) witnesses(in uint64) []*subvolume {
	const most = 4
	var some []*subvolume
	for i := range v.all {
		sub := &v.all[i]
		switch {
		case sub.uuid.IsZero():
		case sub.id == in:
			return []*subvolume{sub}
		case len(some) < most:
			some = append(some, sub)
		}
	}
	return some
}

var (
	errAbandoned = errors.New("the transfer was abandoned")
	errCommitted = errors.New("it has been committed")
)

// writer gives a stream to btrfs receive.
type writer struct {
	ctx      context.Context
	store    *Store
	want     store.Want
	dir      string // where it is received, below the store's
	part     string // as what, below the store's
	protocol uint32 // the highest that can be received

	process process
	out     interface{ Write([]byte) (int, error) }
	tally   stream.Tally
	held    []byte // the last byte of what was written
	err     error  // what ended it
	ended   bool   // the process has ended
	over    error  // committed or closed
}

// Write hands on all but the last byte, so that what waits on the way, and all that
// arrives if the connection is cut, does not end with a whole command.
func (w *writer) Write(p []byte) (int, error) {
	switch {
	case w.over != nil:
		return 0, fmt.Errorf("writing %s: %w", w.store.at(w.want.Path), w.over)
	case w.err != nil:
		return 0, w.err
	case w.ctx.Err() != nil:
		return 0, context.Cause(w.ctx)
	case len(p) == 0:
		return 0, nil
	}
	if w.err = w.take(p); w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

func (w *writer) take(p []byte) error {
	_, begun := w.tally.Identity()
	if _, err := w.tally.Write(p); err != nil {
		return err
	}
	if !begun {
		if err := w.check(); err != nil {
			return err
		}
		var err error
		if p, err = renamed(p, path.Base(w.part)); err != nil {
			return err
		}
	}
	last := len(p) - 1
	for _, piece := range [][]byte{w.held, p[:last]} {
		if _, err := w.out.Write(piece); err != nil {
			return w.broken(err)
		}
	}
	w.held = append(w.held[:0], p[last])
	return nil
}

// check compares the stream that begins with the one that was announced.
func (w *writer) check() error {
	id, _ := w.tally.Identity()
	at := w.store.at(w.want.Path)
	found := snapshot.Edge{To: snapshot.ID(id.UUID), From: snapshot.ID(id.Parent)}
	switch {
	case found != w.want.Edge || id.HasParent == w.want.Edge.IsFull():
		return fmt.Errorf("receiving %s: the stream makes %s from %s, not what was announced", at, found.To, found.From)
	case w.want.Transid != 0 && id.Transid != w.want.Transid:
		return fmt.Errorf("receiving %s: the stream is of transaction %d of the snapshot, not %d", at, id.Transid, w.want.Transid)
	case w.tally.Version() > w.protocol:
		return fmt.Errorf("receiving %s: the btrfs-progs there cannot receive streams of protocol %d, only %d", at, w.tally.Version(), w.protocol)
	}
	return nil
}

// broken says why nothing can be written any more: what btrfs receive says of it,
// as a rule.
func (w *writer) broken(err error) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if ended := w.end(); ended != nil {
		return ended
	}
	return fmt.Errorf("receiving %s: btrfs receive has ended before its time: %w", w.store.at(w.want.Path), err)
}

// end waits for btrfs receive, whose input is at its end.
func (w *writer) end() error {
	if w.ended {
		return w.err
	}
	w.ended = true
	_ = w.process.Input().Close()
	_, err := readAll(w.process)
	if err = failed(w.ctx, err, w.process); err != nil {
		err = w.parent(fmt.Errorf("receiving %s: %w", w.store.at(w.want.Path), err))
	}
	return err
}

// parent finds out that btrfs receive complains about where it should start from.
func (w *writer) parent(err error) error {
	if !w.want.Edge.IsFull() && strings.Contains(w.process.Stderr(), "cannot find parent subvolume") {
		return errors.Join(&store.ParentError{ID: w.want.Edge.From, Why: "is not found there by btrfs receive"}, err)
	}
	return err
}

// Commit ends the stream. When btrfs receive has ended well, everything is written
// out there, and what it has made is looked at and gets its name.
func (w *writer) Commit(ctx context.Context) error {
	at := w.store.at(w.want.Path)
	switch {
	case w.over != nil:
		return fmt.Errorf("committing %s: %w", at, w.over)
	case ctx.Err() != nil:
		return ctx.Err()
	case w.err != nil:
		return w.err
	}
	if err := w.tally.Whole(); err != nil {
		w.err = fmt.Errorf("committing %s: %w", at, err)
		return w.err
	}
	if _, err := w.out.Write(w.held); err != nil {
		w.err = w.broken(err)
		return w.err
	}
	w.held = nil
	if w.err = w.end(); w.err != nil {
		return w.err
	}
	if err := w.publish(ctx); err != nil {
		w.err = fmt.Errorf("committing %s: %w", at, err)
		return w.err
	}
	w.over = errCommitted
	_ = w.process.Close()
	return nil
}

// publish gives what has been received its name.
func (w *writer) publish(ctx context.Context) error {
	s := w.store
	c := s.script()
	from, to := s.at(w.part), s.at(w.want.Path)
	c.must("sync", c.words("btrfs", "filesystem", "sync", s.at(w.dir)))
	c.must("look", "show=$("+c.words("btrfs", "subvolume", "show", from)+") && "+
		fmt.Sprintf(`case $show in *"Received UUID:"*%s*readonly*) :;; *) printf '%%s\n' "$show"; false;; esac`, w.want.Edge.To))
	c.must("move", c.words("mv", from, to))
	c.must("sync again", c.words("btrfs", "filesystem", "sync", s.at(w.dir)))
	c.section("show", c.words("btrfs", "subvolume", "show", to))
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return w.lost(ctx, err)
	}
	for _, step := range []struct{ name, command, left string }{
		{"sync", "btrfs filesystem sync", from},
		{"look", "btrfs subvolume show", from},
		{"move", "mv", from},
		{"sync again", "btrfs filesystem sync", to},
	} {
		got, ran := sections[step.name]
		switch {
		case !ran:
			return errCut
		case got.status == 0:
			continue
		case step.name == "look" && got.out != "":
			return fmt.Errorf("btrfs receive has ended well, but what it has made at %s is not read-only with the received UUID %s", from, w.want.Edge.To)
		case step.name == "move":
			return fmt.Errorf("the snapshot has been received, and stays at %s unless it can be deleted: %w", from, &commandError{"mv", got, said})
		}
		return fmt.Errorf("at %s: %w", step.left, &commandError{step.command, got, said})
	}
	w.remember(sections["show"].out)
	return nil
}

// lost looks once more where the connection was lost while the snapshot got its
// name: it may have it.
func (w *writer) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil || !store.Temporary(err) {
		return err
	}
	v, again := w.store.look(ctx, false)
	if again != nil {
		return err
	}
	sub, ok := v.at(w.want.Path)
	if !ok || !sub.readOnly || sub.received != w.want.Edge.To {
		return err
	}
	if _, again := w.store.run(ctx, "btrfs", "filesystem", "sync", w.store.at(w.dir)); again != nil {
		return err
	}
	return nil
}

// remember makes what has been received known.
func (w *writer) remember(shown string) {
	s := w.store
	d, err := parseShow(shown, s.fromTop(w.want.Path))
	if err != nil {
		s.opt.Log.Debug("what has just been made cannot be looked at", "snapshot", s.at(w.want.Path), "error", err)
		return
	}
	s.remember(d, w.want.Path)
}

// How long is waited for btrfs receive to give up, and for what it has left to be
// deleted.
const (
	givingUp = 5 * time.Second
	deleting = 15 * time.Second
)

// Close ends btrfs receive in the middle of a command, and deletes what it has made.
func (w *writer) Close() error {
	if w.over != nil {
		return nil
	}
	w.over = errAbandoned
	if !w.ended {
		_ = w.process.Input().Close()
		force := time.AfterFunc(givingUp, func() { _ = w.process.Close() })
		_, _ = readAll(w.process)
		force.Stop()
	}
	_ = w.process.Close()
	if _, begun := w.tally.Identity(); !begun {
		return nil // nothing was ever written
	}
	w.clear()
	return nil
}

// clear deletes what is left, of which the name says for sure whose it is.
func (w *writer) clear() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), deleting)
	defer cancel()
	s := w.store
	c := s.script()
	c.section("there", c.words("btrfs", "subvolume", "show", s.at(w.part))+" >/dev/null 2>&1")
	c.line("[ $status = 0 ] || return 0")
	c.section("delete", c.words("btrfs", "subvolume", "delete", s.at(w.part)))
	sections, said, err := s.execute(ctx, c)
	if got := sections["delete"]; err == nil && got.status != 0 {
		err = &commandError{"btrfs subvolume delete", got, said}
	}
	if err != nil {
		s.opt.Log.Warn("what an interrupted receive has left stays", "snapshot", s.at(w.part), "error", err)
	}
}
