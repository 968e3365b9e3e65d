package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	// Path is what it has below the manager's root.
	Path string
	// Text is what it will hold, Link where it leads if it will be a symbolic link. If
	// both are empty, it is removed.
	Text, Link string
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
	files, err := openTree(m.Root)
	if err != nil {
		return err
	}
	defer files.Close()
	var was []File
	defer func() {
		if err != nil {
			err = errors.Join(err, m.undo(context.WithoutCancel(ctx), files, p, was))
		}
	}()
	if err := runAll(ctx, p.Stop); err != nil {
		return err
	}
	for _, f := range p.Files {
		old, err := files.file(f.Path)
		if err != nil {
			return fmt.Errorf("reading a unit: %w", err)
		}
		was = append(was, old)
		if err := files.write(f); err != nil {
			return err
		}
	}
	return runAll(ctx, p.Start)
}

// undo has everything as it was.
func (m *Manager) undo(ctx context.Context, files *tree, p *Plan, was []File) error {
	for _, c := range p.Undo {
		_ = run(ctx, c.Argv) // it may not have been done
	}
	var all error
	for _, f := range slices.Backward(was) {
		all = errors.Join(all, files.write(f))
	}
	if m.Root == "" && len(was) > 0 {
		_ = run(ctx, systemctl(true, "daemon-reload").Argv)
	}
	return all
}

// reload has the manager read what is written.
func (p *Plan) reload() {
	if len(p.Files) > 0 {
		p.Start = append(p.Start, systemctl(false, "daemon-reload"))
	}
}

func runAll(ctx context.Context, all []Command) error {
	for _, c := range all {
		if err := run(ctx, c.Argv); err != nil && !c.Optional {
			return err
		}
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
