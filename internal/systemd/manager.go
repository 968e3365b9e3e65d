package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// Manager writes units.
type Manager struct {
	// Root is the root directory of a system that does not run, such as an image;
	// empty for this one. Links in it lead where they do if it runs, never out of it.
	Root string
}

// mark begins every file that this package writes.
const mark = "# Written by \"buttersink systemd install\""

// Where units are: those of this machine, and those of packages.
const own = "/etc/systemd/system"

var packaged = []string{"/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// dropIn is the name of the file for what is not in the template. People's own
// drop-ins have higher numbers, and win.
const dropIn = "50-buttersink.conf"

// Program is the program that the template runs.
const Program = "/usr/bin/buttersink"

// ErrNotRunning says that this machine is not run by systemd.
var ErrNotRunning = errors.New("systemd does not run this machine")

// Timer says when a job is to run, and how.
type Timer struct {
	Job string
	// Calendar are times as systemd.time(7) has them, at least one, and RandomDelay is
	// a span of time by which each is put off at most, or empty.
	Calendar    []string
	RandomDelay string
	// Program is the full path of buttersink, and Config that of its configuration;
	// empty for what the template has.
	Program, Config string
}

// jobForm is what a job may be called. It needs no escaping in the name of a unit.
var jobForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// Install plans the timer of a job: its drop-ins, the templates where no package
// has brought them, and, with start, that it runs from now on and not only from
// the next boot on. It fails with ErrNotRunning if systemd does not run here and no
// root is given, and with *SpecError where systemd does not understand when the
// job is to run.
func (m *Manager) Install(ctx context.Context, t Timer, start bool) (*Plan, error) {
	if !jobForm.MatchString(t.Job) {
		return nil, fmt.Errorf("%q cannot be the name of a unit", t.Job)
	}
	if err := m.ready(); err != nil {
		return nil, err
	}
	if len(t.Calendar) == 0 {
		return nil, errors.New("the timer has no times")
	}
	for _, spec := range t.Calendar {
		if _, err := Next(ctx, spec); err != nil {
			return nil, err
		}
	}
	if err := checkSpan(ctx, t.RandomDelay); err != nil {
		return nil, err
	}
	service, err := t.serviceDropIn()
	if err != nil {
		return nil, err
	}
	files, err := openTree(m.Root)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	var p Plan
	timer := filepath.Join(own, TimerTemplate)
	for _, name := range []string{ServiceTemplate, TimerTemplate} {
		text, err := Template(name)
		if err != nil {
			return nil, err
		}
		if path := files.packaged(name); path != "" {
			text = ""
			if name == TimerTemplate {
				timer = path
			}
		} else {
			text = mark + ", as no package has brought it.\n" + text
		}
		if err := files.want(&p, filepath.Join(own, name), text); err != nil {
			return nil, err
		}
	}
	if err := files.want(&p, timerFile(t.Job), t.timerDropIn()); err != nil {
		return nil, err
	}
	if err := files.want(&p, serviceFile(t.Job), service); err != nil {
		return nil, err
	}
	if m.Root != "" {
		return &p, files.enable(&p, t.Job, timer)
	}
	p.reload()
	unit := TimerUnit(t.Job)
	p.Start = append(p.Start, systemctl(false, "enable", unit))
	if start {
		// Not start: a timer that is active has to take its new times.
		p.Start = append(p.Start, systemctl(false, "restart", unit))
	}
	all, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	enabled := slices.ContainsFunc(all, func(l Listed) bool { return l.Job == t.Job && l.Enabled })
	moved := slices.Contains(p.Files, File{Path: filepath.Join(own, TimerTemplate)})
	switch {
	case !enabled:
		p.Undo = append(p.Undo, systemctl(true, "disable", unit))
	case moved: // a package has the template now, and what is enabled links to where it was
		p.Stop = append(p.Stop, systemctl(false, "disable", unit))
	}
	return &p, nil
}

// ErrNoTimer says that a job has no timer.
var ErrNoTimer = errors.New("it has no timer")

// Remove plans that a job has no timer any more. With the last one go templates
// that this package has written. A run that is going on is not stopped. It fails
// with ErrNoTimer if there is none.
func (m *Manager) Remove(ctx context.Context, job string) (*Plan, error) {
	if !jobForm.MatchString(job) {
		return nil, fmt.Errorf("%q cannot be the name of a unit", job)
	}
	if err := m.ready(); err != nil {
		return nil, err
	}
	all, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	others, found := 0, false
	for _, l := range all {
		if l.Job == job {
			found = true
		} else {
			others++
		}
	}
	if !found {
		return nil, ErrNoTimer
	}
	files, err := openTree(m.Root)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	var p Plan
	for _, file := range []string{timerFile(job), serviceFile(job)} {
		if err := files.want(&p, file, ""); err != nil {
			return nil, err
		}
	}
	if others == 0 {
		for _, name := range []string{TimerTemplate, ServiceTemplate} {
			if err := files.want(&p, filepath.Join(own, name), ""); err != nil {
				return nil, err
			}
		}
	}
	if m.Root != "" {
		return &p, files.disable(&p, job)
	}
	// The unit has to be there for that.
	unit := TimerUnit(job)
	p.Stop = append(p.Stop,
		systemctl(false, "disable", "--now", unit),
		// When it last ran: a timer of that name in years would make up for it at once.
		systemctl(true, "clean", "--what=state", unit),
		systemctl(true, "reset-failed", unit))
	p.reload()
	return &p, nil
}

func timerFile(job string) string {
	return filepath.Join(own, TimerUnit(job)+".d", dropIn)
}

func serviceFile(job string) string {
	return filepath.Join(own, ServiceUnit(job)+".d", dropIn)
}

// ready says what is missing for units to be written and read.
func (m *Manager) ready() error {
	if m.Root != "" {
		info, err := os.Stat(m.Root)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no directory", m.Root)
		}
		if err != nil {
			return fmt.Errorf("looking at the root: %w", err)
		}
		return nil
	}
	// As sd_booted(3) finds it out.
	if info, err := os.Lstat("/run/systemd/system"); err != nil || !info.IsDir() {
		return ErrNotRunning
	}
	return nil
}

func systemctl(optional bool, words ...string) Command {
	return Command{Argv: append([]string{"systemctl", "--quiet", "--no-ask-password"}, words...), Optional: optional}
}
