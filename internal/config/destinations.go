package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/schedule"
)

// destinations reads those of a job.
func (r *decoder) destinations(j *Job, e *entry, v *value) {
	heading := "[[jobs." + j.Name + ".destinations]]"
	all := []*value{}
	switch {
	case v == nil:
	case v.form == aTable && v.table.headed != nowhere:
		r.wrong(v.span, "destinations are a list, of which this is one", "Write it as "+heading+".")
		return
	case !r.is(v, aList, heading) || r.tooMany(v):
		return
	default:
		all = v.list
	}
	seen := map[string]Position{}
	for _, one := range all {
		if !r.is(one, aTable, heading) {
			continue
		}
		before := len(r.found)
		d, at := r.destination(j, one)
		if len(r.found) > before || d.URL == "" {
			continue
		}
		place := r.spot(d, append(slices.Clone(j.Sources), "{source}")[0])
		if other, ok := seen[place]; ok {
			r.wrong(at, fmt.Sprintf("this is the same place as the destination in line %d", other.Line), "Remove one of the two.")
			continue
		}
		seen[place], d.Place = d.At, r.spot(d, "{source}")
		if r.meets(j, d, at) {
			continue
		}
		if slices.ContainsFunc(j.Destinations, func(o Destination) bool { return o.Name == d.Name }) {
			d.Name = fmt.Sprintf("%s (%d)", d.Name, len(j.Destinations)+1)
		}
		j.Destinations = append(j.Destinations, d)
	}
	if j.Kind == Calendar && (v == nil || len(all) != 1) {
		at := e.at
		if len(all) > 1 {
			at = all[1].span
		}
		r.lacks(at, fmt.Sprintf("the job %q is a calendar, and has exactly one destination", j.Name), "Write one "+heading+": other places take other jobs.")
	}
}

// spot is the same text for destinations that are one place for a source.
func (r *decoder) spot(d Destination, source string) string {
	url := strings.ReplaceAll(d.URL, "{source}", SourceName(source))
	if isPattern(source) {
		url = strings.ReplaceAll(d.URL, "{source}", "source of "+source)
	}
	if r.checks.Same != nil {
		url = r.checks.Same(url, d.Settings)
	}
	return url
}

// brought is what a job before this one has at a place.
type brought struct {
	job    *Job
	source string
	keep   schedule.Rules
}

// meets notes it where a job before this one has the same place: two calendars there
// would take each other's backups for their own; where different rules hold for the
// same snapshots, each job would remove what the other one keeps; and snapshots of
// two subvolumes would take each other's names.
func (r *decoder) meets(j *Job, d Destination, at span) bool {
	for _, source := range j.Sources {
		key := r.spot(d, source)
		if j.Kind == Backup {
			key = strings.Join([]string{j.Prefix, string(j.Format), key}, "\x00")
		}
		o, ok := r.brought[key]
		switch {
		case !ok:
			r.brought[key] = brought{j, source, d.Keep}
		case o.job == j:
		case j.Kind == Calendar:
			r.wrong(at, fmt.Sprintf("the job %q in line %d keeps its chains in the same place, and each would take the backups of the other one for its own", o.job.Name, o.job.At.Line), "Give each a place of its own.")
			return true
		case strings.TrimRight(o.source, "/") != strings.TrimRight(source, "/"):
			r.wrong(at, fmt.Sprintf("the job %q in line %d brings snapshots of %s there, under names that those of %s may have too", o.job.Name, o.job.At.Line, cover(o.source), cover(source)),
				"Give one of them another prefix, or another place.")
			return true
		case o.keep.None() || d.Keep.None() || o.keep.String() == d.Keep.String():
		default:
			r.wrong(at, fmt.Sprintf("the job %q in line %d brings the same snapshots of %s there, and has other rules: each would remove what the other one keeps", o.job.Name, o.job.At.Line, cover(source)),
				"Give one of them another prefix, or another place, or leave its rules out.")
			return true
		}
	}
	return false
}

// destination reads one, and returns what in it says where it is.
func (r *decoder) destination(j *Job, v *value) (d Destination, at span) {
	d.At = r.position(v.start)
	var url, store, below string
	var own []placed
	known := []field{
		{"store", r.text(&store, "nas")},
		{"path", r.text(&below, "home/")},
		{"url", r.text(&url, "/mnt/usb/home/")},
	}
	if j.Kind == Backup {
		known = append(known, field{"keep", r.rules(&d.Keep)})
	}
	known = append(known, slices.DeleteFunc(r.settings(&own, false), func(f field) bool {
		return f.key == "identity" || j.Kind == Calendar && (f.key == "max-chain" || f.key == "max-restore")
	})...)
	r.fields(v.table, fmt.Sprintf("a destination of a job of the kind %q", j.Kind), known, func(key string) string {
		switch {
		case key == "identity":
			return `Keys are for reading: write it in [stores.NAME], for command lines with store://NAME.`
		case j.Kind == Calendar && key == "keep":
			return `A calendar keeps chains: "lifetime", in the job, says for how long.`
		case j.Kind == Calendar && (key == "max-chain" || key == "max-restore"):
			return `"chain", in the job, says how long one gets.`
		case slices.Contains(ofBackups, key) || slices.Contains(ofCalendars, key):
			return fmt.Sprintf("%q is about the job: write it in [jobs.%s], above its destinations.", key, j.Name)
		}
		return belongs(key)
	})
	t := v.table
	at = v.span
	for _, key := range []string{"url", "store", "path"} { // the last one there is decides
		if e := t.index[key]; e != nil {
			at = e.span
		}
	}
	switch {
	case t.index["url"] == nil && t.index["store"] == nil:
		r.lacks(v.span, "this destination is nowhere: it has neither store nor url", `Write store = "NAME" or url = "/mnt/usb/home/".`)
		return d, at
	case t.index["url"] != nil && t.index["store"] != nil:
		r.wrong(t.index["store"].at, "a destination has a store or a url, and not both", "Leave one of the two out.")
		return d, at
	case t.index["url"] != nil && t.index["path"] != nil:
		r.wrong(t.index["path"].at, `"path" goes with "store"`, "Write it at the end of the url.")
		return d, at
	}
	var given []Setting
	var inherited []*Trouble
	if store != "" {
		s := r.storeOf(store, t.index["store"].value)
		if s == nil || s.URL == "" || below != "" && !r.path(below, s, t.index["path"].span) {
			return d, at
		}
		url, given, inherited = Join(s.URL, below), s.Settings, s.Troubles
		d.Name = strings.TrimRight(store+"/"+strings.Trim(below, "/"), "/")
	} else {
		bare := url
		if i := queryAt(url); i >= 0 {
			bare = url[:i]
		}
		d.Name = cover(bare)
		if command, ok := strings.CutPrefix(url, "shell://"); ok {
			// Who is told how it went need not see its arguments, of which one may be a
			// password.
			words := slices.DeleteFunc(strings.Fields(command), func(w string) bool { return strings.Contains(w, "=") })
			d.Name = "shell://" + strings.Join(words[:min(len(words), 1)], "")
		}
		if name := strings.TrimRight(d.Name, "/"); name != "" && !strings.HasSuffix(name, ":") {
			d.Name = name
		}
	}
	if url == "" || !r.broken[store] && !r.url(j.Kind, url, at) {
		return d, at
	}
	if j.several() && strings.HasPrefix(url, "shell://") {
		r.wrong(at, "a command could not tell the snapshots of several sources apart", "Make a job of each source.")
		return d, at
	}
	if j.several() && !strings.Contains(url, "{source}") {
		r.wrong(at, "several sources cannot be brought to one place", r.apartBy(store, below, url))
		return d, at
	}
	troubles := len(r.troubles)
	own = r.checked(url, own)
	d.URL, d.Settings = url, merged(given, bare(own))
	for _, t := range inherited {
		if !slices.ContainsFunc(own, func(p placed) bool { return p.Key == t.Key }) {
			d.Troubles = append(d.Troubles, t)
		}
	}
	d.Troubles = append(d.Troubles, r.since(troubles)...)
	if store == "" || len(own) > 0 && !r.broken[store] {
		r.together(at, url, d.Settings, own)
	}
	if d.Keep != (schedule.Rules{}) && strings.HasPrefix(url, "shell://") {
		r.wrong(t.index["keep"].span, "what a command has been given cannot be removed", "Leave it out.")
	}
	return d, at
}

// apartBy says how the snapshots of several sources are kept apart.
func (r *decoder) apartBy(store, below, url string) string {
	if store != "" {
		return fmt.Sprintf("Write path = %q: it stands for the name of each.", strings.TrimPrefix(Join(below, "{source}/"), "/"))
	}
	return fmt.Sprintf("Write url = %q: it stands for the name of each.", Join(cover(url), "{source}/"))
}

// storeOf returns the store of a name; nil if there is none.
func (r *decoder) storeOf(name string, v *value) *Store {
	if s := r.stores[name]; s != nil {
		return s
	}
	names := slices.Sorted(maps.Keys(r.stores))
	fix := fmt.Sprintf("Write [stores.%s].", name)
	if len(names) > 0 {
		fix = meant(name, names)
	}
	r.wrong(v.span, fmt.Sprintf("there is no store %q", name), fix)
	return nil
}

// path reports whether there can be such a path below a store.
func (r *decoder) path(below string, s *Store, at span) bool {
	switch {
	case strings.HasPrefix(s.URL, "shell://"):
		r.wrong(at, "there is nothing below a command", "Leave it out.")
	case strings.HasPrefix(below, "/"):
		r.wrong(at, "this is a full path, and one below the store is wanted", fmt.Sprintf("Write %q.", strings.TrimLeft(below, "/")))
	case slices.Contains(strings.Split(below, "/"), ".."):
		r.wrong(at, `".." leads out of the store`, "Make another store, or write a url.")
	case strings.Contains(below, "://") || strings.ContainsRune(below, '?') && queryAt("s3://"+below) >= 0:
		r.wrong(at, "this is no path", `Options of a URL, behind "?", stand in that of the store.`)
	default:
		return true
	}
	return false
}
