package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
)

// Listed is the timer of a job as it is.
type Listed struct {
	Job string
	// Calendar and RandomDelay are those of the drop-in; empty if it has none, and
	// the times are those of the template or of somebody's own drop-in.
	Calendar    []string
	RandomDelay string
	// Enabled is set if it starts with the machine, Active if it runs now, and Running
	// if a run of the job is going on.
	Enabled, Active, Running bool
	// Next and Last are when the job runs and ran; zero if not known.
	Next, Last time.Time
}

// List returns the timers of jobs, by name. What only the manager knows is left
// out where none runs, or where it is about a root.
func (m *Manager) List(ctx context.Context) ([]Listed, error) {
	files, err := openTree(m.Root)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	found := map[string]*Listed{}
	at := func(job string) *Listed {
		if found[job] == nil {
			found[job] = &Listed{Job: job}
		}
		return found[job]
	}
	for dir, suffix := range map[string]string{own: ".timer.d", wants: ".timer"} {
		names, err := files.names(dir)
		if err != nil {
			return nil, fmt.Errorf("looking for timers: %w", err)
		}
		for _, name := range names {
			job, ok := strings.CutPrefix(name, "buttersink@")
			job, timer := strings.CutSuffix(job, suffix)
			if !ok || !timer || !jobForm.MatchString(job) {
				continue
			}
			if suffix == ".timer" {
				at(job).Enabled = true
				continue
			}
			text, err := files.read(timerFile(job))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("reading a unit: %w", err)
			}
			if strings.HasPrefix(text, mark) {
				at(job).read(text)
			}
		}
	}
	all := make([]Listed, 0, len(found))
	for _, job := range slices.Sorted(maps.Keys(found)) {
		l := found[job]
		if m.ready() == nil && m.Root == "" {
			if err := l.ask(ctx); err != nil {
				return nil, err
			}
		}
		all = append(all, *l)
	}
	return all, nil
}

// read takes what this package has written into a drop-in.
func (l *Listed) read(text string) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case key == "OnCalendar" && value != "":
			l.Calendar = append(l.Calendar, value)
		case key == "RandomizedDelaySec":
			l.RandomDelay = value
		}
	}
}

// ask asks the manager.
func (l *Listed) ask(ctx context.Context) error {
	timer, err := properties(ctx, TimerUnit(l.Job), "ActiveState", "NextElapseUSecRealtime", "LastTriggerUSec")
	if err != nil {
		return err
	}
	l.Active = timer["ActiveState"] == "active"
	l.Next, l.Last = momentOf(timer["NextElapseUSecRealtime"]), momentOf(timer["LastTriggerUSec"])
	service, err := properties(ctx, ServiceUnit(l.Job), "ActiveState")
	if err != nil {
		return err
	}
	l.Running = slices.Contains([]string{"active", "activating", "deactivating"}, service["ActiveState"])
	return nil
}

// properties asks the manager for properties of a unit.
func properties(ctx context.Context, unit string, names ...string) (map[string]string, error) {
	said, err := answer(ctx, []string{"systemctl", "show", "--property=" + strings.Join(names, ","), unit})
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(said) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	return values, nil
}

// momentOf reads a time as systemctl writes it: "n/a" or nothing is none.
func momentOf(text string) time.Time {
	t, err := time.Parse(moment, text)
	if err != nil {
		return time.Time{}
	}
	return t
}
