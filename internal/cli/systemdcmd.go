package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/hook"
	"github.com/buttersink/buttersink/internal/systemd"
)

// systemdOptions are the flags of the systemd commands.
type systemdOptions struct {
	root         string
	onCalendar   []string
	randomDelay  string
	now          bool
	dryRun, json bool
}

// newSystemd returns the commands about timers.
func newSystemd(env *Env) *cobra.Command {
	return newGroup("systemd", "Have jobs run at their times, by systemd",
		`A job of the configuration is run by the unit buttersink@JOB.service, and that at
its times by buttersink@JOB.timer. Both come from templates, which a package brings
and "buttersink systemd install" writes where there is none; what is special about a
job is in drop-ins.

A run under systemd is one as by hand, with the lowest priority of what is not idle.
"systemctl status buttersink@JOB" shows how far it is, "journalctl -u
buttersink@JOB" what it has said, "systemctl start --wait buttersink@JOB" begins one
and waits for its end, and "systemctl stop buttersink@JOB" ends one: the next
carries on. While something is being sent the machine does not go to sleep.

To systemd a run has failed with every exit code but 0, 5 (cold storage has to be
waited for) and 130 (it was told to stop): OnFailure= in a drop-in has something
done about it, beside the notices of the configuration. A machine that was off at
the time makes up for the run when it is on.

The service cannot load kernel modules, set the clock, or look into other
processes, and its hooks cannot either; the comments in the template say why it
may do the rest. A drop-in ("systemctl edit buttersink@.service") makes it
stricter, or allows more.`,
		newSystemdInstall(env), newSystemdRemove(env), newSystemdList(env))
}

// systemdCommand returns a command about timers, with the flags that all of them
// have.
func systemdCommand(o *systemdOptions, cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&o.root, "root", "", "write the units of the system in `DIR`, which does not run, and not of this one")
	return cmd
}

// oneJob takes the name of a job for argument.
func oneJob(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef(cmd.CommandPath(), "want the name of one job")
	}
	return nil
}

func newSystemdInstall(env *Env) *cobra.Command {
	var o systemdOptions
	cmd := systemdCommand(&o, &cobra.Command{
		Use:   "install [flags] JOB --on-calendar SPEC",
		Short: "Have a job run at its times",
		Long: `systemd install has systemd run a job at the times that SPEC says, which systemd
understands: daily, weekly, 02:30, Mon..Fri 12:00, *-*-1,15 03:00 ("man
systemd.time"; "systemd-analyze calendar SPEC" shows what it means). It writes
buttersink@JOB.timer.d/50-buttersink.conf in /etc/systemd/system, and enables the
timer. Where the program is not /usr/bin/buttersink, or the configuration is not
/etc/buttersink/config.toml (-c), that goes into a drop-in of the service.

Installed again, a timer has its new times in place of the old ones. What is in
files of other names, such as those of "systemctl edit", stays, and wins.

With --root DIR the system in DIR gets the timer, for an image that is being made:
its configuration is read below DIR, and nothing is asked to start.

Before: the job is in the configuration, and it runs as root.

After: the timer is enabled. As with "systemctl enable", that holds from the next
boot on, and with --now at once; a timer that runs already has its new times at
once, too. If anything fails, everything is as it was.`,
		Example: `  buttersink systemd install home --on-calendar daily --random-delay 30m --now
  buttersink systemd install mail --on-calendar '*-*-1,8,15,22 04:00' --now
  buttersink systemd install -n home --on-calendar 02:30
  buttersink systemd install --root /mnt/image home --on-calendar 02:30`,
		Args: oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.install(cmd.Context(), env, cmd.CommandPath(), args[0])
		},
	})
	f := cmd.Flags()
	f.StringArrayVar(&o.onCalendar, "on-calendar", nil, "run it when `SPEC` comes; may be repeated")
	f.StringVar(&o.randomDelay, "random-delay", "", "begin up to `SPAN` later, by chance, so that not all machines begin at once: 30m, 2h")
	f.BoolVar(&o.now, "now", false, "have the timer run from now on; the job itself waits for its time")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	return cmd
}

func newSystemdRemove(env *Env) *cobra.Command {
	var o systemdOptions
	cmd := systemdCommand(&o, &cobra.Command{
		Use:   "remove [flags] JOB",
		Short: "Have a job not run any more by itself",
		Long: `systemd remove stops and disables the timer of a job, and removes what "buttersink
systemd install" has written for it. A run that is going on goes on.

Before: the job has a timer; it need not be in the configuration any more. It runs
as root.

After: systemd does not run the job any more. The configuration, what the job has
made, and files that somebody else has written are untouched.`,
		Example: `  buttersink systemd remove home`,
		Args:    oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.remove(cmd.Context(), env, args[0])
		},
	})
	cmd.Flags().BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	return cmd
}

func newSystemdList(env *Env) *cobra.Command {
	var o systemdOptions
	cmd := systemdCommand(&o, &cobra.Command{
		Use:   "list [flags]",
		Short: "List the jobs that have a timer",
		Long: `systemd list shows the jobs that have a timer: their times, when each runs next, and
what is odd about it: a timer that is not enabled or not started, or whose job is
not in the configuration.

Before: nothing. Where systemd does not run, only files are looked at.

After: nothing has changed.`,
		Example: `  buttersink systemd list
  buttersink systemd list --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.untilReaderLeaves(o.list(cmd.Context(), env))
		},
	})
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	return cmd
}

// manager returns what writes the units.
func (o *systemdOptions) manager(command string) (*systemd.Manager, error) {
	if o.root == "" {
		return &systemd.Manager{}, nil
	}
	root, err := filepath.Abs(o.root)
	if err != nil {
		return nil, usagef(command, "--root %s: %w", o.root, err)
	}
	if root == "/" { // which runs, or is about to
		return nil, usagef(command, "--root / is this system: leave it out")
	}
	return &systemd.Manager{Root: root}, nil
}

// install gives a job a timer.
func (o *systemdOptions) install(ctx context.Context, env *Env, command, job string) error {
	m, err := o.manager(command)
	if err != nil {
		return err
	}
	switch {
	case len(o.onCalendar) == 0:
		return usagef(command, "want --on-calendar SPEC, as in --on-calendar daily")
	case o.now && m.Root != "":
		return usagef(command, "--now and --root contradict each other: what does not run starts nothing")
	}
	timer := systemd.Timer{Job: job, Calendar: o.onCalendar, RandomDelay: o.randomDelay}
	if timer.Config, err = env.configFor(command, m.Root); err != nil {
		return err
	}
	if err := env.hasJob(command, m.Root, job); err != nil {
		return err
	}
	if m.Root == "" {
		if timer.Program, err = ownProgram(); err != nil {
			return err
		}
	}
	plan, err := m.Install(ctx, timer, o.now)
	if err != nil {
		return explainSystemd(err, command, job)
	}
	if err := o.carryOut(ctx, env, m, plan); err != nil || o.dryRun {
		return err
	}
	return o.answer(ctx, env, m, job)
}

// configFor is where the unit has to look for the configuration; "" where it does
// so anyway.
func (env *Env) configFor(command, root string) (string, error) {
	path := cmp.Or(env.configFile, env.Getenv(configVariable))
	if path == "" || root != "" && env.configFile == "" {
		return "", nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", usagef(command, "-c %s: %w", env.configFile, err)
	}
	if root != "" {
		below, err := filepath.Rel(root, path)
		if err != nil || !filepath.IsLocal(below) {
			return "", usagef(command, "-c %s is not below --root %s", env.configFile, root)
		}
		path = "/" + below
	}
	if path == usualConfig {
		return "", nil
	}
	return path, nil
}

// hasJob says if a job is not in the configuration. What the configuration of a
// root names is there and not here, so only what it says is looked at.
func (env *Env) hasJob(command, root, job string) error {
	var f *config.File
	var err error
	if root == "" {
		f, err = env.loadConfig()
	} else if f, err = config.Load(cmp.Or(env.configFile, filepath.Join(root, usualConfig)), config.Checks{}); err != nil {
		err = &exitError{code: exitConfig, err: err}
	}
	if err != nil {
		return err
	}
	var names []string
	for _, j := range f.Jobs {
		if j.Name == job {
			return nil
		}
		names = append(names, j.Name)
	}
	return usagef(command, "there is no job %q: %s has %s", job, f.Path, cmp.Or(strings.Join(names, ", "), "none"))
}

// ownProgram is the path of this program, for a unit that runs it as root: nobody
// else may be able to change it.
func ownProgram() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program: %w", err)
	}
	if err := hook.Check([]string{path}); err != nil {
		return "", &exitError{code: exitFailed, err: fmt.Errorf("having systemd run this program as root: %w", err), hint: "Install it in /usr/local/bin, as root, and run it from there."}
	}
	return path, nil
}

// carryOut does what is planned, and says what that is.
func (o *systemdOptions) carryOut(ctx context.Context, env *Env, m *systemd.Manager, p *systemd.Plan) error {
	would := map[bool]string{true: "WOULD: "}[o.dryRun]
	commands := func(all []systemd.Command) {
		for _, c := range all {
			env.Log.Info(fmt.Sprintf("%sRun %s", would, c))
		}
	}
	commands(p.Stop)
	for _, f := range p.Files {
		path := filepath.Join("/", m.Root, f.Path)
		switch {
		case f.Link != "":
			env.Log.Info(fmt.Sprintf("%sLink %s to %s", would, path, f.Link))
		case f.Text != "":
			env.Log.Info(fmt.Sprintf("%sWrite %s", would, path))
		default:
			env.Log.Info(fmt.Sprintf("%sRemove %s", would, path))
		}
	}
	commands(p.Start)
	if o.dryRun {
		return nil
	}
	if err := m.Do(ctx, p); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return &exitError{code: exitFailed, err: err, hint: "Run it as root."}
		}
		return err
	}
	return nil
}

// answer says when a job runs next.
func (o *systemdOptions) answer(ctx context.Context, env *Env, m *systemd.Manager, job string) error {
	var next time.Time
	for _, spec := range o.onCalendar {
		t, err := systemd.Next(ctx, spec)
		if err != nil {
			return err
		}
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	all, err := m.List(ctx)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s runs at %s", job, momentText(next))
	i := slices.IndexFunc(all, func(l systemd.Listed) bool { return l.Job == job })
	switch {
	case m.Root != "":
		text = job + " runs at its times once the system has been booted"
	case i < 0 || !all[i].Active:
		text = fmt.Sprintf("%s does NOT run at its times before the next boot, as --now was not given; this has it do so from now on: systemctl start %s", job, systemd.TimerUnit(job))
	case !all[i].Next.IsZero(): // with the delay, and what somebody else has added
		text = fmt.Sprintf("%s runs at %s", job, momentText(all[i].Next))
	}
	_, err = io.WriteString(env.Stdout, text+"\n")
	return err
}

func momentText(t time.Time) string { return t.Local().Format("Mon 2006-01-02 15:04:05 MST") }

// remove takes a job its timer.
func (o *systemdOptions) remove(ctx context.Context, env *Env, job string) error {
	m, err := o.manager("buttersink systemd remove")
	if err != nil {
		return err
	}
	plan, err := m.Remove(ctx, job)
	if err != nil {
		return explainSystemd(err, "buttersink systemd remove", job)
	}
	if err := o.carryOut(ctx, env, m, plan); err != nil || o.dryRun {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "%s is not run by a timer any more\n", job)
	return err
}

// explainSystemd gives errors their exit codes and hints.
func explainSystemd(err error, command, job string) error {
	if _, ok := errors.AsType[*systemd.SpecError](err); ok {
		return &usageError{command: command, err: err}
	}
	switch {
	case errors.Is(err, systemd.ErrNotRunning):
		return &exitError{code: exitFailed, err: err, hint: fmt.Sprintf(
			"Whatever runs programs at their times will do, such as cron, by a line in /etc/cron.d: 30 2 * * * root buttersink -q run %s. For an image there is --root DIR.", shellWord(job))}
	case errors.Is(err, systemd.ErrNoTimer):
		return &exitError{code: exitFailed, err: fmt.Errorf("%s: %w", job, err), hint: "'buttersink systemd list' shows which jobs have one."}
	}
	return err
}

// timerRecord is the timer of a job.
type timerRecord struct {
	Event       string    `json:"event"` // "timer"
	Job         string    `json:"job"`
	Calendar    []string  `json:"calendar"`
	RandomDelay string    `json:"random_delay,omitempty"`
	Enabled     bool      `json:"enabled"`
	Active      bool      `json:"active"`
	Running     bool      `json:"running"`
	Known       bool      `json:"known"` // to the configuration
	Next        time.Time `json:"next,omitzero"`
	Last        time.Time `json:"last,omitzero"`
}

// list shows the timers.
func (o *systemdOptions) list(ctx context.Context, env *Env) error {
	m, err := o.manager("buttersink systemd list")
	if err != nil {
		return err
	}
	all, err := m.List(ctx)
	if err != nil {
		return err
	}
	known := func(string) bool { return true }
	if m.Root == "" {
		if f, err := env.loadConfig(); err != nil {
			env.Log.Warn("The configuration is wrong: whether it has these jobs is not known", "file", env.configPath())
		} else {
			known = func(job string) bool {
				for _, j := range f.Jobs {
					if j.Name == job {
						return true
					}
				}
				return false
			}
		}
	}
	out := newRecords(env.Stdout)
	w := bufio.NewWriter(env.Stdout)
	for _, l := range all {
		r := timerRecord{
			Event: "timer", Job: l.Job, Calendar: append([]string{}, l.Calendar...), RandomDelay: l.RandomDelay,
			Enabled: l.Enabled, Active: l.Active, Running: l.Running, Known: known(l.Job), Next: l.Next, Last: l.Last,
		}
		if o.json {
			out.put(r)
			continue
		}
		io.WriteString(w, printable(timerText(r, m.Root == ""))+"\n")
	}
	w.Flush() // env.Stdout keeps the error
	return out.err
}

// timerText is "home  daily, up to 30m later  next Mon 2026-11-23 02:00:00 UTC".
func timerText(r timerRecord, here bool) string {
	when := cmp.Or(strings.Join(r.Calendar, " and "), "at the times of the template")
	if r.RandomDelay != "" {
		when += ", up to " + r.RandomDelay + " later"
	}
	parts := []string{r.Job + ":", when + ";"}
	if r.Running {
		parts = append(parts, "runs now;")
	}
	if !r.Next.IsZero() {
		parts = append(parts, "next "+momentText(r.Next)+";")
	}
	if !r.Enabled {
		parts = append(parts, "NOT ENABLED;")
	}
	if here && !r.Active {
		parts = append(parts, "NOT STARTED;")
	}
	if !r.Known {
		parts = append(parts, "NOT IN THE CONFIGURATION;")
	}
	return strings.TrimSuffix(strings.Join(parts, " "), ";")
}
