package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/ssh"
)

// backupRun is the places of a backup.
type backupRun struct {
	env     *Env
	command string
	o       *backupOptions // what is done, and how the source is reached
	source  site           // the subvolume
	found   local.Found    // what it was found to be, unless somebody has named it
	targets []*target
	seal    seal.Options  // of all archives, where the command line says it
	limit   *pace.Limiter // of the source; on a command line, of all places together
	ledger  *ledger.Ledger
	early   []*earlyOpen
}

// target is one destination of a backup.
type target struct {
	site
	name, id string
	o        *syncOptions // how it is reached, and what is kept there in which form
	seal     seal.Options
	limit    *pace.Limiter
	rules    schedule.Rules
	unusable error      // why nothing can be kept there in that form
	early    *earlyOpen // nil unless it is opened before its turn
}

// prepare reads the arguments, and finds what is wrong with them before anything
// is begun.
func (o *backupOptions) prepare(ctx context.Context, env *Env, command, source string, destinations []string) (*backupRun, error) {
	if o.ssh.sudo.text == "" {
		o.ssh.sudo.text = sudoNever // as btrfs-backup did
	}
	run := &backupRun{env: env, command: command, o: o, limit: pace.New(o.wire.limit.bytes)}
	if err := run.from(source); err != nil {
		return nil, err
	}
	for _, arg := range destinations {
		t, err := run.target(arg)
		if err != nil {
			return nil, err
		}
		for _, other := range run.targets {
			if other.name == t.name && other.id != t.id { // two commands that begin in the same way
				t.name = place.Redact(arg)
			}
		}
		if i := slices.IndexFunc(run.targets, func(other *target) bool { return other.id == t.id }); i >= 0 {
			if other := run.targets[i]; other.store.called() != t.store.called() {
				return nil, usagef(command, "%q and %q are one place: name it once, since what the configuration says of it holds for one of them only", place.Redact(other.Arg), place.Redact(arg))
			}
			// In the command line, say, and in a file of which it is made: no mistake.
			env.Log.Info(t.name + " is given more than once: it is served once")
			continue
		}
		run.targets = append(run.targets, t)
	}
	if err := run.fits(); err != nil {
		return nil, err
	}
	var err error
	if run.seal, err = sealing(command, o.compress, o.encrypt); err != nil {
		return nil, err
	}
	for _, t := range run.targets {
		t.seal = run.seal
		if t.store == nil {
			continue
		}
		if t.seal, err = sealing(command, t.o.compress, t.o.encrypt); err != nil {
			return nil, t.inTrouble("encrypt", t.o.encrypt, err)
		}
		if err := t.seal.Usable(ctx); err != nil {
			return nil, &exitError{code: exitConfig, err: fmt.Errorf("%s: %w", t.name, err)}
		}
	}
	if err := run.seal.Usable(ctx); err != nil {
		return nil, &exitError{code: exitConfig, err: err}
	}
	return run, nil
}

// from reads what names the subvolume.
func (r *backupRun) from(source string) (err error) {
	if r.source, err = placeOf(r.command, source, true); err != nil {
		return err
	}
	switch {
	case r.source.Scheme == "shell":
		return usagef(r.command, "a command (shell://) takes streams and gives none back: it can only be a destination")
	case r.source.Archive():
		return usagef(r.command, "%q is an archive: want a subvolume, of which a snapshot can be made", place.Redact(source))
	}
	if err := madeHere(source, r.source); err != nil {
		return err
	}
	r.source.Place, err = rooted(r.source.Place)
	return err
}

// rooted makes the path of a directory of this machine a full one.
func rooted(p place.Place) (place.Place, error) {
	if !p.Here() && p.Scheme != "dir" {
		return p, nil
	}
	dir, err := filepath.Abs(p.Dir)
	if err != nil {
		return place.Place{}, fmt.Errorf("finding the current directory: %w", err)
	}
	p.Dir = dir
	return p, nil
}

// madeHere fails for a directory that would be made here, and has the form in which
// rsync names one on another machine.
func madeHere(arg string, p site) error {
	url, remote := place.FromRsync(arg)
	if !p.Here() || !remote {
		return nil
	}
	if _, err := os.Lstat(arg); err == nil {
		return nil
	}
	return &exitError{code: exitUsage, err: fmt.Errorf("%q is no directory here", arg), hint: remoteHint(url)}
}

// target reads an argument that names a destination.
func (r *backupRun) target(arg string) (*target, error) {
	p, err := r.env.placeOf(r.command, arg, true)
	if err != nil {
		return nil, err
	}
	if err := madeHere(arg, p); err != nil {
		return nil, err
	}
	return r.targetAt(p)
}

// targetAt is a place as a destination.
func (r *backupRun) targetAt(p site) (*target, error) {
	var err error
	if p.Place, err = rooted(p.Place); err != nil {
		return nil, err
	}
	t := &target{site: p, name: targetName(p), o: &r.o.syncOptions, seal: r.seal, limit: r.limit}
	if p.store != nil {
		if t.o, err = p.settled(r.o.typed, t.o); err != nil {
			return nil, err
		}
		if r.o.wire.limit.given == "" {
			t.limit = pace.New(t.o.wire.limit.bytes)
		}
	}
	t.Place = p.At(t.o.s3.endpoint)
	t.id = t.claimed(t.o)
	if _, err := r.opening(p, t.o).forS3(p.Place); err != nil {
		return nil, &usageError{command: r.command, err: err}
	}
	t.rules = r.rules(t)
	return t, nil
}

// claimed is what a destination is called in the notes beside the snapshots. Of one that
// was typed, options of ssh are no part, since they were none in btrfs-backup's notes.
func (p site) claimed(o *syncOptions) string {
	if p.store == nil {
		return p.ID()
	}
	return p.Over(o.ssh.options).ID()
}

// targetName is how people know a destination, at the beginning of each line about
// it.
func targetName(p site) string {
	switch {
	case p.Here():
		return p.Dir
	case p.Scheme == "shell":
		return cut(place.Redact(p.Arg), commandColumns)
	}
	return place.Redact(strings.TrimRight(p.Bare(), "/"))
}

// commandColumns is how much of a command people are shown again and again.
const commandColumns = 48

// fits says which flags have been given that no place has a use for: who asks for
// encryption and gets none has to know it. Flags of btrfs-backup may be given for
// nothing: they stand in files that are shared.
func (r *backupRun) fits() error {
	o := r.o
	any := func(is func(site) bool) bool {
		return o.lockedDests || slices.ContainsFunc(r.targets, func(t *target) bool { return is(t.site) })
	}
	scheme := func(name string) func(site) bool { return func(p site) bool { return p.Scheme == name } }
	archives, s3 := any(site.Archive), any(scheme("s3"))
	const archive, s3Place, own = "a destination is an archive (dir:// or s3://)", "a destination is s3://", "the source is a btrfs directory on a machine with buttersink"
	network := s3 || any(site.OverSSH) || r.source.OverSSH()
	for _, f := range []struct {
		flag  string
		given bool
		use   bool
		where string
	}{
		{"--compress", o.compress != "", archives, archive},
		{"--encrypt", len(o.encrypt) > 0, archives, archive},
		{"--require-encryption", o.requireEncryption, archives, archive},
		{"--max-restore", o.maxRestore.given != "", any(site.KeepsStreams), "a destination is an archive (dir:// or s3://) or a command (shell://)"},
		{"--storage-class", o.keep.class != "", s3, s3Place},
		{"--sse", o.keep.sse != "", s3, s3Place},
		{"--kms-key", o.keep.kmsKey != "", s3, s3Place},
		{"--s3-endpoint", o.s3.endpoint != "", s3, s3Place},
		{"--s3-path-style", o.s3.pathStyle, s3, s3Place},
		{"--checkpoint", o.checkpoint.given != "", any(site.Ours), "a destination is a btrfs directory on a machine with buttersink"},
		{"--mount", o.mount != "", any(func(p site) bool { return p.Here() || p.Scheme == "dir" }), "a destination is a directory of this machine"},
		{"--kernel-send", o.kernelSend, r.source.Ours(), own},
		{"--decompress", o.decompress, r.source.Ours(), own},
		{"--again", o.again, any(scheme("shell")), "a destination is a command (shell://)"},
		{"--limit", o.wire.limit.given != "", network, "one of the places is ssh://, ssh+btrfs:// or s3://"},
		{"--wire-compression", o.wire.compression.never, any(scheme("ssh")) || r.source.Scheme == "ssh", "one of the places is ssh://"},
		{"--ssh-program", o.ssh.program != "", any(scheme("ssh")) || r.source.Scheme == "ssh", "one of the places is ssh://"},
	} {
		if f.given && !f.use {
			return usagef(r.command, "%s is only for when %s", f.flag, f.where)
		}
	}
	if o.requireEncryption && len(o.encrypt) == 0 {
		return usagef(r.command, "--require-encryption goes with --encrypt, which says for whom")
	}
	if err := (&sshFlags{options: o.ssh.options}).fit(r.command, site{Place: place.Place{Machine: place.Machine{Host: "any"}, Scheme: "ssh"}}); err != nil {
		return err
	}
	for _, named := range o.destinationKeep.order {
		if named == "" {
			continue
		}
		if _, err := r.env.placeOf(r.command, named, true); err != nil {
			return fmt.Errorf("--dest-keep: %w", err)
		}
		if o.lockedDests {
			continue
		}
		if !slices.ContainsFunc(r.targets, func(t *target) bool { return r.isNamed(t, named) }) {
			return usagef(r.command, "--dest-keep is about %q, which is no destination here", place.Redact(named))
		}
	}
	return nil
}

// isNamed reports whether a text names a destination.
func (r *backupRun) isNamed(t *target, text string) bool {
	if text == t.Arg {
		return true
	}
	p, err := r.env.placeOf(r.command, text, true)
	if err != nil {
		return false
	}
	p.Place, err = rooted(p.Place)
	with := (opening{}).ofStore(p)
	p.Place = p.At(with.s3.endpoint).At(t.o.s3.endpoint)
	return err == nil && p.claimed(&syncOptions{ssh: with.ssh}) == t.id
}

// rules are those of a destination, as the flags say.
func (r *backupRun) rules(t *target) schedule.Rules {
	o := r.o
	rules := o.destinationKeep.rules[""]
	if o.destinationCount > 0 {
		rules = schedule.Rules{Last: int(o.destinationCount)}
	}
	for _, named := range o.destinationKeep.order {
		if named != "" && r.isNamed(t, named) {
			rules = o.destinationKeep.rules[named]
		}
	}
	return in(rules, zoneOf(o.utc))
}

// warnCommands says what is lost where nothing can be remembered.
func (r *backupRun) warnCommands() {
	if r.ledger == nil && slices.ContainsFunc(r.targets, func(t *target) bool { return t.Scheme == "shell" }) {
		r.env.Log.Warn("What the command is given cannot be remembered: the next run gives it everything again; BUTTERSINK_STATE names a directory for that")
	}
}

// folder is the place of the snapshots.
func (r *backupRun) folder() site {
	p := r.source
	p.Dir = r.o.folder
	if !path.IsAbs(p.Dir) {
		p.Dir = path.Join(r.source.Dir, p.Dir)
	}
	p.Dir = path.Clean(p.Dir)
	p.Arg = strings.TrimSuffix(p.Dir, "/") + "/"
	if p.OverSSH() {
		p.Arg = p.Scheme + "://" + p.Machine.String() + p.Arg
	}
	return p
}

// firstRunError says that nothing has been backed up yet.
type firstRunError struct{ dir string }

func (e *firstRunError) Error() string { return e.dir + " is not there yet" }

// firstRun is what a dry run says where there are no snapshots yet.
func (r *backupRun) firstRun(folder site) error {
	origin, err := local.Open(r.source.Dir, local.Options{Origin: r.source.Dir, Found: r.found, Rootless: true})
	if err != nil {
		return sourceHint(folder.explain(err))
	}
	return errors.Join(&firstRunError{folder.Dir}, origin.Close())
}

// sourceHint says what has to be where for a backup.
func sourceHint(err error) error {
	if x, ok := errors.AsType[*exitError](err); ok && errors.Is(err, btrfs.ErrNotBtrfs) {
		x.hint = "Is the file system mounted?  Snapshots are made of a subvolume of a mounted btrfs, and are kept on it."
	}
	return err
}

// openSource opens the directory of the snapshots.
func (r *backupRun) openSource(ctx context.Context) (*opened, error) {
	p := r.folder()
	if p.Here() && r.o.dryRun {
		if _, err := os.Lstat(p.Dir); errors.Is(err, fs.ErrNotExist) {
			if info, err := os.Stat(r.source.Dir); err == nil && info.IsDir() {
				return nil, r.firstRun(p)
			}
		}
	}
	r.openEarly(ctx)
	with := r.opening(p, &r.o.syncOptions)
	with.limit = r.limit
	with.local.KernelSend, with.local.Plain, with.needsProgram = r.o.kernelSend, r.o.decompress, r.o.ofSource()
	with.local.Origin, with.local.Found, with.local.Make = r.source.Dir, r.found, !r.o.dryRun
	with.local.Rootless = true // making and removing snapshots may not take root; sending says that it does
	with.mode = ssh.Write
	if r.o.dryRun {
		with.mode = ssh.Read
	}
	if r.plain(ctx) {
		with.local.Protocol = 1
	}
	src, err := r.env.open(ctx, r.command, p, with)
	return src, sourceHint(err)
}

// opening is what the source and the destinations have in common.
func (r *backupRun) opening(p site, o *syncOptions) opening {
	with := opening{s3: o.s3, ssh: o.ssh, plainWire: o.wire.compression.never, ledger: r.ledger, keep: o.keep}
	with.bareIsUsual = true // btrfs-backup asked for nothing else
	with.local.MakeWritable = r.o.makeWritable
	if r.o.dryRun {
		with.ledger = r.env.notesFor(p)
	}
	return with
}

// destinations are the targets as the engine takes them.
func (r *backupRun) destinations() []job.Destination {
	var all []job.Destination
	for _, t := range r.targets {
		all = append(all, r.destination(t))
	}
	return all
}

func (r *backupRun) destination(t *target) job.Destination {
	d := job.Destination{
		Name: t.name, ID: t.id, Rules: t.rules,
		MaxFull: t.o.fullLimit(r.env), Parallel: t.o.together(t.site),
		Open: func(ctx context.Context) (store.Store, error) { return r.open(ctx, t) },
	}
	if t.KeepsStreams() {
		d.MaxChain, d.MaxRestore = t.o.maxChain, t.o.maxRestore.bytes
	}
	return d
}

// locked makes destinations of the ids of unfinished transfers; nil if they are
// not wanted. Who may write beside the snapshots may be on another machine, and is
// not to run programs on this one.
func (r *backupRun) locked() func(id string) (job.Destination, error) {
	if !r.o.lockedDests {
		return nil
	}
	return func(id string) (job.Destination, error) {
		p, err := r.env.knownAs(r.command, id)
		if err != nil {
			return job.Destination{}, err
		}
		t, err := r.targetAt(p)
		if err != nil {
			return job.Destination{}, err
		}
		if t.Scheme == "shell" {
			return job.Destination{}, &exitError{
				code: exitFailed, err: errors.New("a command is not run because a note says so"),
				hint: "Name it as a destination, and it is given what it was to get; with --remove-locks that is forgotten.",
			}
		}
		t.id = id // as it is written
		if p.store != nil {
			if t.seal, err = sealing(r.command, t.o.compress, t.o.encrypt); err != nil {
				return job.Destination{}, err
			}
		}
		t.rules = r.rules(t)
		return r.destination(t), nil
	}
}
