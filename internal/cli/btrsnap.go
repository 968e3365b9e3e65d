package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/pipe"
)

// btrsnapProgram is the name that the program may be called by, and the script
// whose place it takes.
const btrsnapProgram = "btrsnap"

// btrsnapOptions are the flags of btrsnap.
type btrsnapOptions struct {
	snapshots, homes, program, log string
	maxAge, staleAfter             ageFlag
	force, wait, dryRun, json      bool
}

// newBtrsnap returns the command that makes the snapshots of a day and hands them
// to their users' programs, under the name by which it is called.
func newBtrsnap(env *Env, name string) *cobra.Command {
	o := &btrsnapOptions{}
	cmd := &cobra.Command{
		Use:   name + " [flags] NAME...",
		Short: "Make today's snapshots of users, and offer them to their programs",
		Long: `btrsnap makes a read-only snapshot of the subvolume of each NAME, which is a user's
home as a rule, and calls it by the date: SNAPSHOTS/NAME/2026-11-21. Then it offers
it to the user's own program, .btrsend in the home, and removes the snapshots that
have got too old. It takes the place of the scripts that btrsend came with, and
carries on what they have left.

The program is run as the user, in the home, with the date as its argument and
nothing of this process's environment. With one line on its standard output it says
what it wants: nothing, "c" for the snapshot in full, or "i 2014-01-07" for the
increment from that one; and is given the stream on its standard input. It sees the
end of that only if the stream is whole. A .btrsend that runs "buttersink btrsend"
does all this:

  #!/bin/sh
  exec buttersink btrsend --recipient me@example.org "$1"

The names are served side by side, and what fails for one keeps no other from being
served. The program may be at work for days; a run that meets another one's program
still gets its own snapshot made.

Before: it runs as root. SNAPSHOTS is on the btrfs of the homes; each home is a
subvolume. Nobody but root can write to SNAPSHOTS.

After: today's snapshots are there. What a program has asked for, it has been given
whole. Snapshots older than --max-age are gone, but for the newest, for the one
that the program has taken last, since its next increment starts from it, for what
is held ("buttersink hold"), and, as long as a program is there of which nothing is
known yet, all of them. Only names that are dates count. The exit code is 4 if some
of it could not be done. More than half of them at once takes --force.`,
		Example: fmt.Sprintf(`  %[1]s alice bob                       in a timer, every midnight
  %[1]s --snapshots /mnt/pool/.snap --homes /mnt/pool --program '' data
  %[1]s -n alice                        show what would be done`, map[bool]string{true: name, false: "buttersink btrsnap"}[name == btrsnapProgram]),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef(cmd.CommandPath(), "want the names of users, or of other subvolumes beside their homes")
			}
			for _, name := range args {
				if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00\n") {
					return usagef(cmd.CommandPath(), "%q is no name of a user or a subvolume", name)
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBtrsnap(cmd.Context(), env, o, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.snapshots, "snapshots", "/home/btrfs/snapshot", "keep the snapshots in this `DIR`, in one directory for each name")
	f.StringVar(&o.homes, "homes", "", "find the subvolumes in this `DIR` (default: where SNAPSHOTS is in)")
	f.StringVar(&o.program, "program", ".btrsend", "offer the snapshot to this `FILE` in the home, if it is there and executable; '' offers it to nobody")
	f.StringVar(&o.log, "log", "", "append what is done to this `FILE` (default: btrsnap.log in SNAPSHOTS)")
	o.maxAge = ageFlag{age: 60 * 24 * time.Hour, given: "60d"}
	f.Var(&o.maxAge, "max-age", "remove snapshots that are older than this `AGE`; 0d keeps all")
	f.Var(&o.staleAfter, "stale-after", "how long a program that is not heard of keeps what it needs: an `AGE` (default 90d)")
	f.BoolVar(&o.force, "force", false, "remove more than half of the snapshots of a name at once")
	f.BoolVar(&o.wait, "wait", false, "wait while another run is at work, in place of ending with exit code 7")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	return cmd
}

// btrsnapRun is one run of btrsnap.
type btrsnapRun struct {
	env    *Env
	o      *btrsnapOptions
	engine *job.Engine
	day    string

	mu  sync.Mutex
	log io.Writer
	out *records
}

func runBtrsnap(ctx context.Context, env *Env, o *btrsnapOptions, names []string) error {
	r := &btrsnapRun{env: env, o: o, day: env.Now().Local().Format(time.DateOnly), out: newRecords(env.Stdout), log: io.Discard}
	// The programs run in the homes, from where relative paths lead elsewhere.
	if err := absolute(&o.snapshots, &o.homes); err != nil {
		return err
	}
	if o.homes == "" {
		o.homes = filepath.Dir(o.snapshots)
	}
	r.engine = &job.Engine{Log: env.Log, Now: env.Now}
	if _, err := os.Stat(o.snapshots); o.dryRun && o.log == "" && errors.Is(err, os.ErrNotExist) {
		return o.nowhere()
	}
	if !o.dryRun {
		r.engine.Ledger = env.openLedger()
		f, err := openBtrsnapLog(o)
		if err != nil {
			return err
		}
		if f != nil {
			defer f.Close()
			r.log = f
		}
	}
	r.note("--- btrsnap %s ---", r.day)
	// What a program is given goes on after a terminal has gone, and the program
	// itself is ended in an orderly way.
	var (
		served  sync.WaitGroup
		errs    = make([]error, len(names))
		anybody = make([]bool, len(names))
	)
	distinct := slices.Compact(slices.Sorted(slices.Values(names)))
	for i, name := range distinct {
		served.Go(func() { anybody[i], errs[i] = r.serve(ctx, name) })
	}
	served.Wait()
	return r.result(distinct, anybody, errs)
}

func absolute(paths ...*string) (err error) {
	for _, p := range paths {
		if *p != "" && err == nil {
			*p, err = filepath.Abs(*p)
		}
	}
	return err
}

// nowhere says that there is no place for snapshots, and so for the log.
func (o *btrsnapOptions) nowhere() error {
	return &exitError{
		code: exitFailed, err: fmt.Errorf("'%s' is not an existing directory", o.snapshots),
		hint: "Make it, on the btrfs of the homes, or say with --snapshots where it is.",
	}
}

// openBtrsnapLog opens the log file. The default one needs its directory.
func openBtrsnapLog(o *btrsnapOptions) (*os.File, error) {
	name := o.log
	if name == "" {
		name = filepath.Join(o.snapshots, "btrsnap.log")
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, 0o640)
	if errors.Is(err, os.ErrNotExist) && o.log == "" {
		return nil, o.nowhere()
	}
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return f, nil
}

// note writes a line to the log of the run.
func (r *btrsnapRun) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = fmt.Fprintf(r.log, "%s\n", printable(fmt.Sprintf(format, args...))) // the console has it too
}

// btrsnapRecord is what becomes of one name.
type btrsnapRecord struct {
	Event  string      `json:"event"`
	Name   string      `json:"name"`
	Path   string      `json:"path,omitempty"`
	ID     snapshot.ID `json:"id,omitzero"`
	Parent string      `json:"parent,omitempty"`
	Bytes  int64       `json:"bytes,omitempty"`
	Reason string      `json:"reason,omitempty"`
	DryRun bool        `json:"dry_run,omitempty"`
	Error  string      `json:"error,omitempty"`
}

// tell says what has happened to people, to machines and to the log.
func (r *btrsnapRun) tell(rec btrsnapRecord, format string, args ...any) {
	r.note(format, args...)
	rec.Path, rec.Name, rec.DryRun = validText(rec.Path), validText(rec.Name), r.o.dryRun
	if r.o.json {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.out.put(rec)
		return
	}
	r.env.Log.Info(fmt.Sprintf(format, args...))
}

// serve does all for one name. Done is set if its snapshot is there.
func (r *btrsnapRun) serve(ctx context.Context, name string) (done bool, err error) {
	home := filepath.Join(r.o.homes, name)
	with := local.Options{Origin: home, Make: !r.o.dryRun, Protocol: 1, Log: r.env.Log}
	as, nobody := r.account(name, home)
	would := map[bool]string{true: "WOULD: ", false: ""}[r.o.dryRun]
	st, err := local.Open(filepath.Join(r.o.snapshots, name), with)
	if r.o.dryRun && errors.Is(err, local.ErrNotDirectory) { // which would be made
		r.tell(btrsnapRecord{Event: "made", Name: name, Path: r.day}, "%sMake the snapshot %s/%s", would, name, r.day)
		return true, nobody
	}
	if errors.Is(err, os.ErrNotExist) {
		return false, &exitError{
			code: exitFailed, err: err,
			hint: fmt.Sprintf("Name a subvolume in %s, or say with --homes where the subvolumes are.", shellWord(r.o.homes)),
		}
	}
	if err != nil {
		return false, err
	}
	defer st.Close()
	o := job.DatedOptions{
		Name: r.day, MaxAge: r.o.maxAge.age, Zone: time.Local, StaleAfter: r.o.staleAfter.age,
		Force: r.o.force, Wait: r.o.wait, DryRun: r.o.dryRun, Who: "buttersink btrsnap " + name,
		Taken: func(s snapshot.Snapshot, made bool) {
			if made {
				r.tell(btrsnapRecord{Event: "made", Name: name, Path: s.Path, ID: s.ID}, "Made the snapshot %s/%s", name, s.Path)
			}
		},
		Wanted: func(wanted bool, parent string) {
			rec := btrsnapRecord{Event: "wanted", Name: name, Path: r.day, Parent: parent}
			switch {
			case !wanted:
				rec.Event = "unwanted"
				r.tell(rec, "The program of %s wants no backup of %s", name, r.day)
			case parent == "":
				r.tell(rec, "The program of %s wants %s in full", name, r.day)
			default:
				r.tell(rec, "The program of %s wants the increment from %s to %s", name, parent, r.day)
			}
		},
		Judged: func(all []job.Verdict) {
			for _, v := range all {
				if !v.Keep && r.o.dryRun {
					r.tell(btrsnapRecord{Event: "removed", Name: name, Path: v.Snapshot.Path, ID: v.Snapshot.ID, Reason: v.Reason}, "WOULD: Delete old snapshot %s/%s", name, v.Snapshot.Path)
				}
			}
		},
		Removed: func(s snapshot.Snapshot, err error) {
			if err == nil {
				r.tell(btrsnapRecord{Event: "removed", Name: name, Path: s.Path, ID: s.ID}, "Deleting old snapshot %s/%s", name, s.Path)
			}
		},
	}
	if as != nil || nobody != nil {
		o.Taker = "btrsend:" + name
		o.Offer = func(ctx context.Context) (job.Offered, error) {
			if nobody != nil {
				return nil, nobody
			}
			r.note("Calling btrsend for user %s and snapshot %s", name, r.day)
			return pipe.BeginOffer(ctx, pipe.OfferOptions{
				Program: filepath.Join(home, r.o.program), Args: []string{r.day}, Dir: home,
				Env: as.environment(), As: as.credential, Log: r.env.Log.With("name", name),
			})
		}
	}
	report, err := r.engine.Dated(ctx, st, o)
	if r.o.dryRun {
		err = errors.Join(err, nobody)
	}
	if report.Snapshot == nil {
		if err == nil {
			r.tell(btrsnapRecord{Event: "made", Name: name, Path: r.day}, "%sMake the snapshot %s/%s", would, name, r.day)
		} else if _, locked := errors.AsType[*store.LockedError](err); !locked {
			r.note("Could not create snapshot for %s.", name)
		}
	}
	if report.Given != nil && report.Given.Err == nil {
		r.tell(btrsnapRecord{Event: "given", Name: name, Path: r.day, ID: report.Snapshot.ID, Bytes: report.Given.Bytes},
			"The program of %s has taken %s (%s)", name, r.day, meter.Bytes(report.Given.Bytes))
	}
	return report.Snapshot != nil || r.o.dryRun, explainPrune(err)
}

// account is whom a program runs as.
type account struct {
	name, home string
	credential *syscall.Credential
}

// account returns the user whose program is offered the snapshot; nil if there is no
// program. It is never root.
func (r *btrsnapRun) account(name, home string) (*account, error) {
	if r.o.program == "" {
		return nil, nil
	}
	info, err := os.Stat(filepath.Join(home, r.o.program))
	if errors.Is(err, os.ErrNotExist) || err == nil && (info.IsDir() || info.Mode()&0o111 == 0) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the program of %s: %w", name, err)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("running %s in %s: there is no user %s to run it as; --program '' offers the snapshot to nobody", r.o.program, home, name)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("the user %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("the user %s: %w", name, err)
	}
	if uid == 0 || gid == 0 {
		return nil, fmt.Errorf("%s is root, or in its group: no program in a home is run as root", name)
	}
	a := &account{name: name, home: u.HomeDir, credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("the groups of the user %s: %w", name, err)
	}
	for _, g := range groups {
		if id, err := strconv.ParseUint(g, 10, 32); err == nil && id != 0 {
			a.credential.Groups = append(a.credential.Groups, uint32(id))
		}
	}
	return a, nil
}

// environment is all that a program finds in its environment.
func (a *account) environment() []string {
	return []string{
		"HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name,
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
	}
}

// result makes one error out of those of all names.
func (r *btrsnapRun) result(names []string, done []bool, errs []error) error {
	var failed []error
	any, locked := false, 0
	for i, name := range names {
		any = any || done[i]
		if errs[i] == nil {
			continue
		}
		if _, is := errors.AsType[*store.LockedError](errs[i]); is {
			locked++
		}
		err := fmt.Errorf("%s: %w", name, errs[i])
		failed = append(failed, err)
		r.note("%s", place.Redact(err.Error()))
	}
	var err error
	switch {
	case len(failed) == 0:
	case !any || locked == len(names):
		err = errors.Join(failed...)
	default:
		err = &exitError{code: exitPartly, err: errors.Join(failed...), hint: judge(failed[0]).hint}
	}
	if r.o.json {
		r.out.put(resultRecord{Event: "result", OK: err == nil, Exit: judge(err).code, DryRun: r.o.dryRun, Error: errorText(err)})
		err = errors.Join(err, r.out.err)
	}
	return err
}
