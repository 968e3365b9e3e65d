package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Plan is what is going to be done.
type Plan struct {
	// Stop is run before the files are written or removed, and Start afterwards.
	Stop  []Command
	Files []File
	Start []Command
	// Undo is run if anything fails, before the files become what they were.
	Undo []Command
}

// File is one that is written, or removed.
type File struct {
	// Path is below the manager's root.
	Path string
	// Text is what it will hold; empty if it is removed.
	Text string
}

// Command is a program that is run, with its arguments.
type Command struct {
	Argv []string
	// Optional is set if nothing depends on its success.
	Optional bool
}

func (c Command) String() string { return strings.Join(c.Argv, " ") }

// Do carries a plan out. If it fails, the files are as they were, and what the
// manager has read of them it is asked to read again.
func (m *Manager) Do(ctx context.Context, p *Plan) (err error) {
	var was []File
	defer func() {
		if err != nil {
			err = errors.Join(err, m.undo(context.WithoutCancel(ctx), p, was))
		}
	}()
	if err := runAll(ctx, p.Stop); err != nil {
		return err
	}
	for _, f := range p.Files {
		text, err := os.ReadFile(f.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reading a unit: %w", err)
		}
		was = append(was, File{Path: f.Path, Text: string(text)})
		if err := f.write(); err != nil {
			return err
		}
	}
	return runAll(ctx, p.Start)
}

// undo has everything as it was.
func (m *Manager) undo(ctx context.Context, p *Plan, was []File) error {
	for _, c := range p.Undo {
		_ = run(ctx, c.Argv) // it may not have been done
	}
	var all error
	for _, f := range slices.Backward(was) {
		all = errors.Join(all, f.write())
	}
	if m.Root == "" && len(was) > 0 {
		_ = run(ctx, m.systemctl(true, "daemon-reload").Argv)
	}
	return all
}

func runAll(ctx context.Context, all []Command) error {
	for _, c := range all {
		if err := run(ctx, c.Argv); err != nil && !c.Optional {
			return err
		}
	}
	return nil
}

// write makes the file what it is to be, at once. A directory of drop-ins that is
// empty goes with its last file.
func (f File) write() error {
	dir := filepath.Dir(f.Path)
	if f.Text == "" {
		if err := os.Remove(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a unit: %w", err)
		}
		if strings.HasSuffix(dir, ".d") {
			_ = os.Remove(dir) // which fails if there is anything else in it
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the directory of a unit: %w", err)
	}
	temporary, err := os.CreateTemp(dir, ".buttersink-*")
	if err != nil {
		return fmt.Errorf("writing a unit: %w", err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.WriteString(f.Text)
	if err == nil {
		err = temporary.Chmod(0o644)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temporary.Name(), f.Path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", f.Path, err)
	}
	return nil
}

// run runs a program for what it does.
func run(ctx context.Context, argv []string) error {
	_, err := answer(ctx, argv)
	return err
}

// answer runs a program for what it says, in plain English and times in UTC. An
// error has what it complains about.
func answer(ctx context.Context, argv []string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		if said := strings.Join(strings.Fields(complaints.String()), " "); said != "" {
			err = fmt.Errorf("%s (%w)", strings.TrimSuffix(said, "."), err)
		}
		return "", fmt.Errorf("running %q: %w", strings.Join(argv, " "), err)
	}
	return out.String(), nil
}
