package bare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/store"
)

// A note is a file in the directory. It is written beside the old one, as a copy of
// that at first, so that it keeps its owner and its mode, and takes its place when it
// is whole and written out. Right before, the old one is compared with what was read.
// Meanwhile the script has a lock (flock, where there is such a program) on the one
// directory that everybody may open: the root of the machine's file systems.

// noteFile is the absolute path of a note, or an error if it is none that is kept.
func (s *Store) noteFile(name string) (string, error) {
	if name != store.LocksNote && name != store.RetentionNote {
		return "", fmt.Errorf("%q is no note that is kept", clip(name))
	}
	return s.at(name), nil
}

// ReadNote reads a note.
func (s *Store) ReadNote(ctx context.Context, name string) (note []byte, err error) {
	file, err := s.noteFile(name)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = s.orMade(ctx, func() (err error) {
			c := s.script()
			s.seek(c, file)
			c.must("note", c.words("cat", file))
			note, _, err = s.found(ctx, c)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.at(name), err)
	}
	return note, nil
}

// seek adds to a script what ends it unless there is a note.
func (s *Store) seek(c *script, file string) {
	c.must("directory", c.words("ls", "-di", s.dir+"/."))
	c.must("kind", "kind=$("+c.words("ls", "-ld", file)+`) && printf '%s\n' "$kind"`)
	c.line(`case $kind in -*) ;; *) return 0;; esac`)
}

// found runs a script that seek has begun, and returns its section "note". There is
// false where there is no such file.
func (s *Store) found(ctx context.Context, c *script) (note []byte, there bool, err error) {
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return nil, false, err
	}
	const gone = "No such file or directory"
	kind, ran := sections["kind"]
	switch dir := sections["directory"]; {
	case dir.status != 0 && strings.Contains(said, gone):
		return nil, false, fmt.Errorf("%w: make it there first: %w", ErrNotDirectory, &commandError{"ls", dir, said})
	case dir.status != 0:
		return nil, false, &commandError{"ls", dir, said}
	case !ran:
		return nil, false, errCut
	case kind.status != 0 && strings.Contains(said, gone):
		return nil, false, nil
	case kind.status != 0:
		return nil, false, &commandError{"ls", kind, said}
	case !strings.HasPrefix(kind.out, "-"):
		return nil, false, errors.New("it is not a file, and so not a note")
	}
	for _, step := range []struct{ name, command string }{{"copy", "cp"}, {"keep", "cp"}, {"note", "cat"}} {
		if got, ran := sections[step.name]; ran && got.status != 0 {
			return nil, true, &commandError{step.command, got, said}
		}
	}
	got, ran := sections["note"]
	switch {
	case !ran:
		return nil, true, errCut
	case len(got.out) > store.MaxNote:
		return nil, true, fmt.Errorf("it has more than %d bytes", store.MaxNote)
	case got.out == "":
		return nil, true, nil
	}
	return []byte(got.out), true, nil
}

// WriteNote writes a note.
func (s *Store) WriteNote(ctx context.Context, name string, data, was []byte) error {
	file, err := s.noteFile(name)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = s.writable("writing", name)
	}
	if err == nil && len(data) > store.MaxNote {
		err = fmt.Errorf("it would have %d bytes, and may have %d", len(data), store.MaxNote)
	}
	if err == nil {
		err = s.orMade(ctx, func() error { return s.writeNote(ctx, file, data, was) })
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", s.at(name), err)
	}
	return nil
}

func (s *Store) writeNote(ctx context.Context, file string, data, was []byte) (err error) {
	next, old := partName(file), partName(file)
	defer func() {
		if err != nil && !errors.Is(err, ErrNotDirectory) {
			s.discard(ctx, next, old)
		}
	}()
	c := s.script()
	s.seek(c, file)
	c.must("copy", c.words("cp", "-p", file, next))
	c.must("keep", c.words("cp", "-p", file, old))
	c.must("note", c.words("cat", old))
	now, there, err := s.found(ctx, c)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(now, was):
		return store.ErrNoteChanged
	case !there && len(data) == 0:
		return nil
	case !there:
		if err := s.begin(ctx, next); err != nil {
			return err
		}
	}
	if len(data) > 0 {
		if err := s.feed(ctx, data, "tee", next); err != nil {
			return err
		}
	}
	return s.replace(ctx, file, next, old, there, len(data) > 0)
}

// begin makes an empty file that nobody else may read.
func (s *Store) begin(ctx context.Context, file string) error {
	c := s.script()
	c.line("umask 077")
	c.section("copy", c.words("cp", "/dev/null", file))
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return err
	}
	if got := sections["copy"]; got.status != 0 {
		return &commandError{"cp", got, said}
	}
	return nil
}

// feed gives a command its input, and waits for its end.
func (s *Store) feed(ctx context.Context, data []byte, words ...string) error {
	p, err := s.link.start(ctx, words...)
	if err != nil {
		return failed(ctx, err, nil)
	}
	fed := make(chan error, 1)
	go func() {
		_, err := p.Input().Write(data)
		fed <- errors.Join(err, p.Input().Close())
	}()
	n, err := io.Copy(io.Discard, io.LimitReader(p.Output(), longestOutput))
	if err == nil && n != int64(len(data)) {
		err = fmt.Errorf("%s has taken %d of %d bytes", words[0], n, len(data))
	}
	err = errors.Join(p.Wait(), err)
	err = errors.Join(err, p.Close())
	if wrote := <-fed; err == nil {
		err = wrote
	}
	return failed(ctx, err, p)
}

// replace puts a new note where the old one is, or removes that.
func (s *Store) replace(ctx context.Context, file, next, old string, there, filled bool) error {
	c := s.script()
	c.must("sync", c.words("btrfs", "filesystem", "sync", s.root()))
	c.line("if command -v flock >/dev/null 2>&1 && (exec 9</) 2>/dev/null; then exec 9</; tries=0")
	c.line(`until flock -n 9 || [ $tries = 100 ]; do tries=$((tries + 1)); sleep 0.1 2>/dev/null || sleep 1; done; fi`)
	if there {
		c.must("same", c.words("cmp", "-s", file, old))
	} else {
		c.must("same", "if "+c.words("ls", "-d", file)+" >/dev/null 2>&1; then (exit 1); fi")
	}
	if filled {
		c.must("move", c.words("mv", "-f", next, file))
	} else {
		c.must("remove", c.words("rm", "-f", file, next))
	}
	c.line("exec 9<&-")
	c.must("sync again", c.words("btrfs", "filesystem", "sync", s.root()))
	if there {
		c.section("clean", c.words("rm", "-f", old))
	}
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return err
	}
	for _, step := range []struct{ name, command string }{
		{"sync", "btrfs filesystem sync"}, {"same", "cmp"}, {"move", "mv"}, {"remove", "rm"}, {"sync again", "btrfs filesystem sync"},
	} {
		got, ran := sections[step.name]
		failed := &commandError{step.command, got, said}
		switch {
		case !ran && step.name != "move" && step.name != "remove":
			return errCut
		case !ran || got.status == 0:
			continue
		case step.name == "same" && !failed.noProgram() && !failed.refused():
			return store.ErrNoteChanged
		}
		return failed
	}
	return nil
}

// discard removes what a note that was not written has left, if that can be done.
func (s *Store) discard(ctx context.Context, files ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	if _, err := s.run(ctx, append([]string{"rm", "-f"}, files...)...); err != nil {
		s.opt.Log.Warn("files stay that were to be removed", "files", files, "error", err)
	}
}
