package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/schedule"
)

// ofBackups and ofCalendars are the keys that jobs of one kind have, and those of
// the other have not.
var (
	ofBackups   = []string{"prefix", "format", "snapshot", "only-if-changed", "keep", "utc"}
	ofCalendars = []string{"days", "chain", "lifetime", "snapshots-max-age"}
)

// job reads one.
func (r *decoder) job(e *entry) {
	t := e.table
	calendar := schedule.Btrsend()
	j := &Job{
		Name: e.key, At: r.position(e.at.start), Kind: Backup,
		Format: schedule.Compact, Snapshot: true, HookTimeout: usualHookTimeout,
	}
	before, troubles := len(r.found), len(r.troubles)
	if kind := t.index["kind"]; kind != nil {
		r.kind(j, kind.value)
	}
	var own []placed
	var destinations *value
	known := []field{
		{"kind", func(*value) {}},
		{"sources", r.texts(&j.Sources, "/home", r.source)},
		{"nested", r.flag(&j.Nested)},
		{"exclude", r.texts(&j.Exclude, "/srv/cache", r.pattern)},
		{"snapshots", r.snapshots(j)},
		{"every", r.lasting(&j.Every, time.Minute)},
		{"max-age", r.lasting(&j.MaxAge, time.Minute)},
		{"stale-after", r.age(&j.StaleAfter)},
		{"before", r.programs("before", &j.Before)},
		{"after-snapshot", r.programs("after-snapshot", &j.AfterSnapshot)},
		{"after", r.programs("after", &j.After)},
		{"on-failure", r.programs("on-failure", &j.OnFailure)},
		{"hook-timeout", r.lasting(&j.HookTimeout, time.Second)},
		{"notify", r.texts(&j.Notify, "admin", r.notified)},
		{"destinations", func(v *value) { destinations = v }},
	}
	if j.Kind == Calendar {
		j.Days, j.Chain, j.Lifetime, j.SnapshotsMaxAge = calendar.Days, calendar.Length, calendar.Lifetime, usualSnapshotsAge
		known = append(known,
			field{"days", r.days(&j.Days)},
			field{"chain", r.number(&j.Chain, 1, 1000)},
			field{"lifetime", r.number(&j.Lifetime, 1, 36500)},
			field{"snapshots-max-age", r.age(&j.SnapshotsMaxAge)})
	} else {
		j.Snapshots = usualSnapshots
		known = append(known,
			field{"prefix", r.prefix(&j.Prefix)},
			field{"format", r.format(&j.Format)},
			field{"snapshot", r.flag(&j.Snapshot)},
			field{"only-if-changed", r.flag(&j.OnlyIfChanged)},
			field{"keep", r.rules(&j.Keep)},
			field{"utc", r.flag(&j.UTC)})
	}
	known = append(known, r.settings(&own, true)...)
	r.fields(t, fmt.Sprintf("a job of the kind %q", j.Kind), known, func(key string) string {
		switch {
		case j.Kind == Backup && slices.Contains(ofCalendars, key):
			return fmt.Sprintf("%q is for a calendar: write kind = %q, or leave it out.", key, Calendar)
		case j.Kind == Calendar && slices.Contains(ofBackups, key):
			return fmt.Sprintf("A calendar keeps chains of dated snapshots, and %q is for jobs of the kind %q: leave it out.", key, Backup)
		case key == "store" || key == "url" || key == "path":
			return fmt.Sprintf("%q is about a destination: write it below [[jobs.%s.destinations]].", key, j.Name)
		}
		return belongs(key)
	})
	if j.Notify == nil && t.index["notify"] == nil {
		for _, n := range r.file.Notices {
			j.Notify = append(j.Notify, n.Name)
		}
	}
	r.jobMakesSense(j, e, own)
	j.Troubles = r.since(troubles)
	r.destinations(j, e, destinations)
	if len(r.found) == before {
		r.apartFrom(j, t.index["keep"])
		r.file.Jobs = append(r.file.Jobs, *j)
	}
}

// kind reads what a job is about.
func (r *decoder) kind(j *Job, v *value) {
	kind := ""
	r.text(&kind, string(Backup))(v)
	switch Kind(kind) {
	case Backup, Calendar:
		j.Kind = Kind(kind)
	case "":
	default:
		r.wrong(v.span, fmt.Sprintf("%q is no kind of job", kind), meant(kind, []string{string(Backup), string(Calendar)}))
	}
}

// isPattern reports whether a source stands for all paths that look like it.
func isPattern(source string) bool {
	return !strings.Contains(source, "://") && strings.ContainsAny(source, `*?[\`)
}

// source reports whether a subvolume may be called like that.
func (r *decoder) source(v *value) bool {
	scheme, _, remote := strings.Cut(v.text, "://")
	switch {
	case remote && scheme != "ssh" && scheme != "ssh+btrfs" && scheme != "btrfs" && scheme != "file":
		r.wrong(v.span, fmt.Sprintf("%s:// holds no subvolume, of which a snapshot could be made", scheme), "A source is a path, or ssh://host/path.")
		return false
	case remote && strings.ContainsAny(v.text, "*?["):
		r.wrong(v.span, "patterns are only for paths of this machine", "Name each source.")
		return false
	case !remote && !strings.HasPrefix(v.text, "/"):
		fix := "Write where it is, beginning with a slash: the program may be started anywhere."
		if host, dir, ok := strings.Cut(v.text, ":"); ok {
			fix = elsewhere(host, dir)
		}
		r.wrong(v.span, fmt.Sprintf("%q is no full path", cover(v.text)), fix)
		return false
	case isPattern(v.text):
		return r.pattern(v)
	case !r.placeholders(v.text, v.span):
		return false
	}
	if r.checks.Source != nil {
		if err := r.checks.Source(v.text); err != nil {
			r.taken(v.span, err, "A source is a path, or ssh://host/path.")
			return false
		}
	}
	return true
}

// pattern reports whether paths can look like that.
func (r *decoder) pattern(v *value) bool {
	switch {
	case !strings.HasPrefix(v.text, "/"):
		r.wrong(v.span, fmt.Sprintf("%q is no full path", v.text), "Whole paths are compared: begin with a slash.")
		return false
	case strings.Contains(v.text, "**"):
		r.wrong(v.span, "** is not known: * stands for what is between two slashes", "For whatever is below, write nested = true.")
		return false
	}
	if _, err := path.Match(v.text, ""); err != nil {
		r.wrong(v.span, fmt.Sprintf("%q is no pattern", v.text), `Close what [ begins; write \[ for the character itself.`)
		return false
	}
	return true
}

// snapshots reads the directory of the snapshots.
func (r *decoder) snapshots(j *Job) func(*value) {
	return func(v *value) {
		dir := ""
		r.text(&dir, "/mnt/pool/.snapshots/{source}")(v)
		switch {
		case dir == "":
		case strings.Contains(dir, "://"):
			r.wrong(v.span, "snapshots are kept on the file system of their source", "Write a directory there, relative to the source or with its full path.")
		case r.placeholders(dir, v.span, "{source}"):
			j.Snapshots = dir
		}
	}
}

// prefix reads the beginning of the names of snapshots.
func (r *decoder) prefix(to *string) func(*value) {
	return func(v *value) {
		switch {
		case !r.is(v, aText, `"home-"`):
		case strings.ContainsAny(v.text, "/\x00\n"):
			r.wrong(v.span, "a prefix of names has no slash and no line end in it", "For a directory there is the key \"snapshots\".")
		case r.placeholders(v.text, v.span):
			*to = v.text
		}
	}
}

// format reads how times are written.
func (r *decoder) format(to *schedule.Layout) func(*value) {
	return func(v *value) {
		text := ""
		r.text(&text, string(schedule.Compact))(v)
		if text == "" {
			return
		}
		layout, err := schedule.ParseLayout(text)
		if err != nil {
			r.taken(v.span, err, "")
			return
		}
		*to = layout
	}
}

// days reads days of the month.
func (r *decoder) days(to *[]int) func(*value) {
	return func(v *value) {
		if !r.is(v, aList, "[1, 8, 15, 22]") || r.tooMany(v) {
			return
		}
		var all []int
		for _, one := range v.list {
			day := 0
			r.number(&day, 1, 31)(one)
			if day > 0 && slices.Contains(all, day) {
				r.wrong(one.span, fmt.Sprintf("%d is there twice", day), "Remove one of the two.")
			}
			all = append(all, day)
		}
		if len(all) == 0 {
			r.wrong(v.span, "there is no day in it on which a backup is made", "Write days = [1, 8, 15, 22], say.")
			return
		}
		slices.Sort(all)
		*to = all
	}
}

// notified reports whether there is such a notice.
func (r *decoder) notified(v *value) bool {
	if r.notices[v.text] {
		return true
	}
	var names []string
	for name := range r.notices {
		names = append(names, name)
	}
	slices.Sort(names)
	fix := fmt.Sprintf("Write [notify.%s].", v.text)
	if len(names) > 0 {
		fix = meant(v.text, names)
	}
	r.wrong(v.span, fmt.Sprintf("there is no notice %q", v.text), fix)
	return false
}

// several reports whether a job may be about more than one subvolume.
func (j *Job) several() bool {
	return len(j.Sources) > 1 || j.Nested || slices.ContainsFunc(j.Sources, isPattern)
}

// jobMakesSense notes what is wrong with a job as a whole, apart from where it
// brings its snapshots.
func (r *decoder) jobMakesSense(j *Job, e *entry, own []placed) {
	t := e.table
	remote := slices.ContainsFunc(j.Sources, func(s string) bool { return strings.HasPrefix(s, "ssh") })
	sources := t.index["sources"]
	switch {
	case sources == nil:
		r.lacks(e.at, fmt.Sprintf("the job %q has no sources", j.Name), `Write sources = ["/home"], say.`)
	case sources.form == aList && len(sources.list) == 0:
		r.wrong(sources.span, "there is no source in it", `Write sources = ["/home"], say.`)
	default:
		r.sourceNames(j, sources.value)
	}
	if j.Kind == Calendar && t.index["snapshots"] == nil {
		r.lacks(e.at, fmt.Sprintf("the job %q is a calendar and has no snapshots", j.Name), `Write snapshots = "/home/btrfs/snapshot/{source}", say.`)
	}
	if dir := t.index["snapshots"]; dir != nil && path.IsAbs(j.Snapshots) && j.several() && !strings.Contains(j.Snapshots, "{source}") {
		r.wrong(dir.span, "the snapshots of several sources cannot be in one directory", fmt.Sprintf("Write %q.", strings.TrimSuffix(j.Snapshots, "/")+"/{source}"))
	}
	if dir := t.index["snapshots"]; dir != nil && j.Kind == Calendar && j.Snapshots != "" && !path.IsAbs(j.Snapshots) {
		r.wrong(dir.span, fmt.Sprintf("%q is no full path", j.Snapshots), "Write where it is, beginning with a slash.")
	}
	if exclude := t.index["exclude"]; exclude != nil && len(j.Sources) > 0 && !j.Nested && !slices.ContainsFunc(j.Sources, isPattern) {
		r.wrong(exclude.at, `"exclude" leaves subvolumes out that patterns or "nested" find, and there are neither`, "Leave it out, or write nested = true.")
	}
	if age := t.index["max-age"]; age != nil && j.MaxAge > 0 && j.MaxAge < j.Every {
		r.wrong(age.span, "that is shorter than the time between two runs, so the job would always be late", fmt.Sprintf("Write more than %q.", FormatSpan(j.Every)))
	}
	if nested := t.index["nested"]; nested != nil && j.Nested && j.Kind == Calendar {
		r.wrong(nested.at, "a calendar is about the subvolumes that it names", `Leave "nested" out.`)
	}
	if !j.Snapshot && len(j.AfterSnapshot) > 0 {
		r.wrong(t.index["after-snapshot"].at, "no snapshot is made, since snapshot = false", `Call the programs "before" or "after".`)
	}
	if changed := t.index["only-if-changed"]; changed != nil && j.OnlyIfChanged {
		switch {
		case !j.Snapshot:
			r.wrong(changed.at, "no snapshot is made, since snapshot = false", "Leave one of the two out.")
		case remote:
			r.wrong(changed.at, "what has changed can only be told of sources of this machine", "Leave it out, or make this a job of that machine.")
		}
	}
	own = r.checked("", own)
	for _, p := range own {
		network := strings.HasPrefix(p.Key, "ssh-") || p.Key == "limit" || p.Key == "wire-compression"
		if network && len(j.Sources) > 0 && !remote {
			r.wrong(p.value.span, fmt.Sprintf("%q is about a source on another machine here, and there is none", p.Key), "What is about a destination stands below [[jobs."+j.Name+".destinations]], or with its store.")
		}
	}
	j.Settings = bare(own)
}

// sourceNames notes sources that would be told apart by nothing.
func (r *decoder) sourceNames(j *Job, sources *value) {
	names := map[string]string{}
	for _, v := range sources.list {
		if v.form != aText || !slices.Contains(j.Sources, v.text) || isPattern(v.text) {
			continue
		}
		name := SourceName(v.text)
		if other, ok := names[name]; ok && other != v.text {
			r.wrong(v.span, fmt.Sprintf("%s and %s have the same name in a destination, %s", cover(other), cover(v.text), name), "Make two jobs of them.")
		}
		names[name] = v.text
	}
}

// apartFrom notes it where a job before this one would remove what this one keeps,
// and the other way round.
func (r *decoder) apartFrom(j *Job, keep *entry) {
	if keep == nil || j.Keep.None() {
		return
	}
	for _, o := range r.file.Jobs {
		if o.Keep.None() || o.Keep.String() == j.Keep.String() || o.Prefix != j.Prefix || o.Format != j.Format || path.Clean(o.Snapshots) != path.Clean(j.Snapshots) {
			continue
		}
		for _, source := range j.Sources {
			if slices.ContainsFunc(o.Sources, func(s string) bool { return strings.TrimRight(s, "/") == strings.TrimRight(source, "/") }) {
				r.wrong(keep.span, fmt.Sprintf("the job %q in line %d has the same snapshots of %s, and other rules for them: each would remove what the other one keeps", o.Name, o.At.Line, cover(source)),
					"Give one of them another prefix, or leave its rules out.")
				return
			}
		}
	}
}
