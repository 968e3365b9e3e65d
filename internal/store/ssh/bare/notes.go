package bare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
			note, err = s.readNote(ctx, file)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.at(name), err)
	}
	return note, nil
}

// gone is what programs say of a file that is not there.
const gone = "No such file or directory"

// kindOf says whether there is a note, as the sections "directory" and "kind" of a
// script tell.
func kindOf(sections map[string]section, said string) (there bool, err error) {
	kind, ran := sections["kind"]
	switch dir := sections["directory"]; {
	case dir.status != 0 && strings.Contains(said, gone):
		return false, fmt.Errorf("%w: make it there first: %w", ErrNotDirectory, &commandError{"ls", dir, said})
	case dir.status != 0:
		return false, &commandError{"ls", dir, said}
	case !ran:
		return false, errCut
	case kind.status != 0 && strings.Contains(kind.out, gone):
		return false, nil
	case kind.status != 0:
		return false, &commandError{"ls", kind, kind.out}
	case !strings.HasPrefix(kind.out, "-"):
		return false, errors.New("it is not a file, and so not a note")
	}
	return true, nil
}

func (s *Store) readNote(ctx context.Context, file string) ([]byte, error) {
	c := s.script()
	c.must("directory", c.words("ls", "-di", s.dir+"/."))
	c.must("kind", c.kind(file))
	c.line(`case $kind in -*) ;; *) return 0;; esac`)
	c.section("note", c.words("cat", file))
	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return nil, err
	}
	if there, err := kindOf(sections, said); err != nil || !there {
		return nil, err
	}
	got, ran := sections["note"]
	switch {
	case !ran:
		return nil, errCut
	case got.status != 0:
		return nil, &commandError{"cat", got, said}
	case len(got.out) > store.MaxNote:
		return nil, fmt.Errorf("it has more than %d bytes", store.MaxNote)
	case got.out == "":
		return nil, nil
	}
	return []byte(got.out), nil
}

// kind is a command that prints what ls says of a file, and leaves it in $kind.
func (c *script) kind(file string) string {
	return "kind=$(" + c.words("ls", "-ld", file) + ` 2>&1); status=$?; printf '%s\n' "$kind"; (exit $status)`
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
		err = s.orMade(ctx, func() error { return s.writeNoteTwice(ctx, file, data, was) })
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", s.at(name), err)
	}
	return nil
}

// writeNoteTwice writes a note, and again where the connection has been lost, since
// nobody knows what has become of it then.
func (s *Store) writeNoteTwice(ctx context.Context, file string, data, was []byte) error {
	err := s.writeNote(ctx, file, data, was)
	if !store.Temporary(err) || ctx.Err() != nil {
		return err
	}
	now, again := s.readNote(ctx, file)
	if again != nil {
		return err
	}
	if bytes.Equal(now, data) {
		was = data
	}
	return s.writeNote(ctx, file, data, was)
}

// writeNote does it all in one script, which goes on to its end when nobody reads what
// it prints any more: a connection that breaks leaves the old note or the new one, and
// nothing beside it.
func (s *Store) writeNote(ctx context.Context, file string, data, was []byte) error {
	next := partName(file)
	c := s.script()
	c.line("trap '' HUP PIPE")
	c.must("directory", c.words("ls", "-di", s.dir+"/."))
	c.line("if command -v flock >/dev/null 2>&1 && (exec 9</) 2>/dev/null; then exec 9</; tries=0")
	c.line(`until flock -n 9 || [ $tries = 100 ]; do tries=$((tries + 1)); sleep 0.1 2>/dev/null || sleep 1; done; fi`)
	c.section("kind", c.kind(file))
	c.line(`case $status$kind in`)
	c.line(`0-*)`)
	c.must("same", printing(was)+" | "+c.words("cmp", "-s", file, "-"))
	c.must("copy", c.words("cp", "-p", file, next))
	c.line(`;;`)
	c.line(`[!0]*"` + gone + `"*)`)
	if len(was) > 0 {
		c.section("same", "(exit 1)")
		c.line("return 0")
	}
	c.line("umask 077")
	c.must("copy", c.words("cp", "/dev/null", next))
	c.line(`;;`)
	c.line(`*) return 0;;`)
	c.line(`esac`)
	if len(data) > 0 {
		c.must("write", printing(data)+" | "+c.words("tee", next)+" >/dev/null")
		c.must("sync", c.words("btrfs", "filesystem", "sync", s.root()))
		c.must("move", c.words("mv", "-f", next, file))
	} else {
		c.must("remove", c.words("rm", "-f", file, next))
	}
	c.line("exec 9<&-")
	c.section("done", c.words("btrfs", "filesystem", "sync", s.root()))

	sections, said, err := s.execute(ctx, c)
	if err != nil {
		return err
	}
	if _, err := kindOf(sections, said); err != nil {
		return err
	}
	for _, step := range []struct{ name, command string }{
		{"same", "cmp"}, {"copy", "cp"}, {"write", "tee"}, {"sync", "btrfs filesystem sync"}, {"move", "mv"}, {"remove", "rm"}, {"done", "btrfs filesystem sync"},
	} {
		got, ran := sections[step.name]
		failed := &commandError{step.command, got, said}
		switch {
		case !ran && step.name == "done":
			return errCut
		case !ran || got.status == 0:
			continue
		case step.name == "same" && got.status <= 2 && !failed.noProgram() && !failed.refused():
			return store.ErrNoteChanged
		}
		s.discard(ctx, next)
		return failed
	}
	return nil
}

// printing is a command of the shell's own that prints any bytes. What reads them says
// for itself why it does not go on.
func printing(data []byte) string {
	const most = 1000 // bytes to a word
	var b strings.Builder
	b.WriteString("{ :")
	for len(data) > 0 {
		b.WriteString("\nprintf '")
		piece := data[:min(most, len(data))]
		data = data[len(piece):]
		for _, c := range piece {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(` ":,{}[]/._`, c) >= 0 {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, `\%03o`, c)
			}
		}
		b.WriteString("'")
	}
	b.WriteString("\n} 2>/dev/null")
	return b.String()
}

// discard removes what a note that was not written has left, if that can be done.
func (s *Store) discard(ctx context.Context, files ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	if _, err := s.run(ctx, append([]string{"rm", "-f"}, files...)...); err != nil {
		s.opt.Log.Warn("files stay that were to be removed", "files", files, "error", err)
	}
}
