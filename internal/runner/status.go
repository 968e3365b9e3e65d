package runner

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
)

// slack is how far in the future a time may be and still count: clocks are set right
// by a little now and then.
const slack = 5 * time.Minute

// pastRuns is how many runs are looked at for what a job was last about.
const pastRuns = 50

// Status is how things stand with the jobs of a configuration.
type Status struct {
	At   time.Time
	Jobs []JobStatus
}

// JobStatus is how things stand with one job.
type JobStatus struct {
	Job string
	// Running is set while a run is going on.
	Running bool
	// Last is the last run; nil if there was none.
	Last *ledger.JobRun
	// NextDue is when it is to run again; zero if nothing says so. One that never ran
	// is due at once.
	NextDue time.Time
	// Places are ordered as the sources and destinations of the configuration are. The
	// first of each source is the source itself, if snapshots are made there.
	Places []PlaceStatus
	// Trouble is what the last run that has ended, or was killed, did not go well for;
	// empty if it went well.
	Trouble string
}

// PlaceStatus is how things stand with one source at one place.
type PlaceStatus struct {
	Source, Destination string // as in ledger.PlaceRun
	// Success is the last one, and Try the last run that was about it; nil if there
	// was none.
	Success, Try *ledger.PlaceRun
	// Moved is set if what the ledger knows is of another place, which had the same
	// name when the last run was: that is neither Success nor Try.
	Moved bool
	// Gone is set if its source has not been found by the last whole run, and earlier
	// ones have: it was deleted, or renamed.
	Gone bool
	// Failed is set if the last run that was to do something there did not do it.
	Failed bool
	// Age is since the last success, and Limit how old it may be. Usual is set if only
	// what usually is says so.
	Age, Limit time.Duration
	Usual      bool
	// Late is set if something is wrong.
	Late bool
	// Why says what is wrong, and what went wrong lately even if that is not too bad
	// yet.
	Why string
}

// Late is how many places something is wrong at, and how many there are.
func (s *Status) Late() (late, all int) {
	for _, j := range s.Jobs {
		for _, p := range j.Places {
			all++
			if p.Late {
				late++
			}
		}
	}
	return late, all
}

// Look answers how things stand, from the configuration and the ledger alone: nothing
// is asked of any place. Without a ledger (nil), no job ever ran. Running tells whether
// a run of a job is going on; nil stands for none.
//
// What is judged is what the configuration has now: a destination by another name is
// another one, so is one by the same name at another place, and what the ledger knows
// of removed jobs and destinations does not count. Where sources are patterns, those count that the last whole run was about;
// after one that was cut short, the pattern counts as well. One that was found before,
// and is not any more, is late when its last success gets too old, and is forgotten
// thirty days later, or if it is excluded.
//
// A place is late if its last success is older than allowed: than maxAge, if that is
// not 0, else than the job's MaxAge, else than Every and a quarter of it, but at least
// two hours more. Where nothing says how old, it is late if the last run did not
// succeed there, or if it is twice as old as usual (usualAge). It is always late if
// there was no success, or if that is in the future: the clock was set back, and nobody
// knows how old it is. A source where what is to be removed has been put off for a month
// is late, too.
//
// Where others make the snapshots, the newest one that the last success knew of may be
// no older either. A job that makes them itself need not have made one lately: what has
// not changed is backed up as it is.
func Look(f *config.File, l *ledger.Ledger, now time.Time, maxAge time.Duration, running func(job string) bool) (*Status, error) {
	s := &Status{At: now}
	for i := range f.Jobs {
		j, err := look(&f.Jobs[i], l, now, maxAge, running != nil && running(f.Jobs[i].Name))
		if err != nil {
			return nil, fmt.Errorf("looking at job %s: %w", f.Jobs[i].Name, err)
		}
		s.Jobs = append(s.Jobs, *j)
	}
	return s, nil
}

// look answers how things stand with one job.
func look(j *config.Job, l *ledger.Ledger, now time.Time, maxAge time.Duration, running bool) (*JobStatus, error) {
	s := &JobStatus{Job: j.Name, Running: running}
	var runs []ledger.JobRun
	var successes, tries []ledger.PlaceRun
	if l != nil {
		var err error
		if runs, err = l.JobRuns(j.Name, pastRuns); err != nil {
			return nil, err
		}
		if successes, tries, err = l.LastPlaces(j.Name); err != nil {
			return nil, err
		}
	}
	// The last run about which something can be said is not the one that is going on.
	over := runs
	if running && len(runs) > 0 && runs[0].Ended.IsZero() {
		over = runs[1:]
	}
	var last *ledger.JobRun
	if len(over) > 0 {
		last = &over[0]
	}
	if len(runs) > 0 {
		s.Last = &runs[0]
	}
	s.NextDue = nextDue(j, runs, now)
	s.Trouble = troubleOf(last)
	limit := cmp.Or(maxAge, j.MaxAge)
	if limit == 0 && j.Every > 0 {
		limit = j.Every + max(j.Every/4, 2*time.Hour)
	}
	for _, p := range slices.Concat(expected(j, tries, runs), unseen(j, tries, runs, last)) {
		p.Limit, p.Usual = limit, limit == 0
		if p.Usual {
			p.Limit = usualLimit(j, p, runs)
		}
		p.Success, p.Try = cmp.Or(p.Success, find(successes, p)), find(tries, p)
		p.stays(j)
		p.judge(j, last, running, now)
		s.Places = append(s.Places, p)
	}
	if err := s.tellPutOff(l, now); err != nil {
		return nil, err
	}
	s.Places = append(s.Places, gone(j, successes, tries, runs, s.Places, func(p PlaceStatus) time.Duration {
		return cmp.Or(limit, usualLimit(j, p, runs))
	}, now)...)
	return s, nil
}

// nextDue is when a job is to run again. The length of a run does not matter, nor how
// it went: what starts it goes by a clock. Only a calendar makes up for a day of which
// there is nothing, so that it is due until a run has succeeded.
func nextDue(j *config.Job, runs []ledger.JobRun, now time.Time) time.Time {
	calendar := j.Every == 0 && j.Kind == config.Calendar && len(j.Days) > 0
	if j.Every == 0 && !calendar {
		return time.Time{}
	}
	i := 0
	if calendar {
		i = slices.IndexFunc(runs, func(r ledger.JobRun) bool { return r.Result == ledger.Done })
	}
	if i < 0 || len(runs) == 0 || runs[i].Begun.After(now.Add(slack)) {
		return now
	}
	last := runs[i].Begun.In(now.Location())
	if !calendar {
		return last.Add(j.Every)
	}
	for ahead := 1; ahead <= 62; ahead++ { // two months have every day that there is
		day := time.Date(last.Year(), last.Month(), last.Day()+ahead, 0, 0, 0, 0, now.Location())
		if slices.Contains(j.Days, day.Day()) {
			return day
		}
	}
	return time.Time{}
}

// troubleOf says what a run that is over did not go well for.
func troubleOf(r *ledger.JobRun) string {
	switch {
	case r == nil || r.Result == ledger.Done:
		return ""
	case r.Ended.IsZero():
		return "the last run was killed, or the machine went off"
	case r.Result == ledger.Interrupted:
		return withReason("the last run was stopped", inOneLine(r.Message))
	}
	return withReason("the last run failed", inOneLine(r.Message))
}

// expected are the places that a job is about.
func expected(j *config.Job, tries []ledger.PlaceRun, runs []ledger.JobRun) []PlaceStatus {
	since := wholeRun(runs)
	var lately []ledger.PlaceRun
	for _, t := range tries {
		if t.Run >= since {
			lately = append(lately, t)
		}
	}
	var sources, known []string
	for _, typed := range j.Sources {
		found := foundBy(j, typed, lately)
		if known = append(known, found...); len(found) == 0 {
			found = []string{notedAs(typed, tries)}
		}
		sources = append(sources, found...)
	}
	var places []PlaceStatus
	seen := map[string]bool{}
	for _, source := range sources {
		if seen[source] {
			continue
		}
		seen[source] = true
		here := PlaceStatus{Source: source}
		if j.Kind != config.Calendar && j.Snapshot || find(lately, here) != nil {
			places = append(places, here)
		}
		name := "{source}"
		if !isPattern(source) || slices.Contains(known, source) || find(tries, PlaceStatus{Source: source}) != nil {
			name = config.SourceName(source) // it is called like that
		}
		for _, d := range j.Destinations {
			places = append(places, PlaceStatus{Source: source, Destination: strings.ReplaceAll(d.Name, "{source}", name)})
		}
	}
	return places
}

// unseen stand for what a pattern or an outer source may have beside what is known,
// where the last run that is over was cut short: it may never come to a new one that
// is the last in the order. Their success is the last whole run.
func unseen(j *config.Job, tries []ledger.PlaceRun, runs []ledger.JobRun, last *ledger.JobRun) []PlaceStatus {
	if last == nil || last.Result == ledger.Done || last.Result == ledger.Failed {
		return nil
	}
	since := wholeRun(runs)
	var success *ledger.PlaceRun
	for _, r := range runs {
		if r.ID == since {
			success = &ledger.PlaceRun{Run: r.ID, Ended: r.Ended, Result: ledger.Done, Outstanding: -1}
		}
	}
	lately := slices.DeleteFunc(slices.Clone(tries), func(t ledger.PlaceRun) bool { return t.Run < since })
	var places []PlaceStatus
	for _, typed := range j.Sources {
		known := foundBy(j, typed, lately)
		name := bare(typed)
		if !isPattern(typed) {
			name = strings.TrimRight(name, "/") + "/..."
		}
		if len(known) > 0 && !slices.Contains(known, name) { // or it is expected itself
			places = append(places, PlaceStatus{Source: name, Success: success})
		}
	}
	return places
}

// wholeRun is the number of the last run that came to its end with every source; 0 if
// that is not known.
func wholeRun(runs []ledger.JobRun) int64 {
	for _, r := range runs {
		if (r.Result == ledger.Done || r.Result == ledger.Failed) && len(r.Places) > 0 {
			return r.ID
		}
	}
	return 0
}

// foundBy are the sources that runs were about lately because of one that is written
// down and stands for several.
func foundBy(j *config.Job, typed string, lately []ledger.PlaceRun) []string {
	if !j.Nested && !isPattern(typed) {
		return nil
	}
	var sources []string
	for _, p := range lately {
		if standsFor(bare(typed), j.Nested, p.Source) && !slices.Contains(sources, p.Source) {
			sources = append(sources, p.Source)
		}
	}
	return sources
}

// standsFor tells whether a path, which may be a pattern, stands for a source, or
// with nested for one that this lies in.
func standsFor(typed string, nested bool, source string) bool {
	for ; ; source = path.Dir(source) {
		if typed == source || matches(typed, source) {
			return true
		}
		if !nested || source == path.Dir(source) {
			return false
		}
	}
}

// matches tells whether a run finds a path by a pattern, of which an element matches
// names that begin with a dot only where it does so too.
func matches(pattern, name string) bool {
	elements, names := strings.Split(pattern, "/"), strings.Split(name, "/")
	if len(elements) != len(names) {
		return false
	}
	for i, element := range elements {
		if ok, _ := path.Match(element, names[i]); !ok || strings.HasPrefix(names[i], ".") && !strings.HasPrefix(element, ".") {
			return false
		}
	}
	return true
}

// notedAs is how the ledger calls a source.
func notedAs(typed string, noted []ledger.PlaceRun) string {
	for _, p := range noted {
		if bare(p.Source) == bare(typed) {
			return p.Source
		}
	}
	return bare(typed)
}

// bare is a source without what can be written in several ways.
func bare(source string) string {
	for _, here := range []string{"file://", "btrfs://"} {
		source = strings.TrimPrefix(source, here)
	}
	if strings.Contains(source, "://") {
		return strings.TrimRight(source, "/")
	}
	return path.Clean(source)
}

// isPattern tells whether a source stands for several.
func isPattern(source string) bool {
	return !strings.Contains(source, "://") && strings.ContainsAny(source, "*?[")
}

// find returns what is noted of a place; nil if nothing is.
func find(noted []ledger.PlaceRun, p PlaceStatus) *ledger.PlaceRun {
	for i := range noted {
		if noted[i].Source == p.Source && noted[i].Destination == p.Destination {
			return &noted[i]
		}
	}
	return nil
}

// judge says whether something is wrong at a place. Last is the last run that is over.
func (p *PlaceStatus) judge(j *config.Job, last *ledger.JobRun, running bool, now time.Time) {
	trouble := ""
	switch {
	case p.Try == nil && last != nil && last.Result == ledger.Done:
		p.Late, p.Why = true, "never tried: it was not in the configuration at the last run"
		if p.Moved {
			p.Why = "never tried: the configuration had another place for it at the last run"
		}
		return
	case p.Try != nil && (last == nil || last.Result == ledger.Done || p.Try.Run >= last.ID):
		// The last run that was about it has come here; whatever went wrong elsewhere
		// does not matter.
		trouble = tryTrouble(p.Try)
		if trouble == "" && last != nil && p.Try.Run < last.ID {
			trouble = "the last run was not about it"
		}
	default:
		trouble = troubleOf(last)
	}
	p.Failed = trouble != ""
	switch {
	case p.Success != nil:
		p.Age = now.Sub(p.Success.Ended)
	case p.Failed:
		p.Why = "never succeeded: " + trouble
	case running:
		p.Why = "never succeeded: the first run is going on"
	default:
		p.Why = "never ran"
	}
	if p.Success == nil {
		if p.Late = true; p.Moved {
			p.Why += "; the last success was where the configuration had it before"
		}
		return
	}
	p.Why = p.tooOld("the last success", p.Age)
	if p.Why == "" && othersSnapshots(j) && !p.Success.AsOf.IsZero() {
		if p.Why = p.tooOld("the newest snapshot", now.Sub(p.Success.AsOf)); p.Why != "" {
			p.Why += ": others are to make them"
		}
	}
	p.Late = p.Why != "" || p.Usual && p.Failed
	if p.Why != "" && trouble != "" {
		p.Why += "; "
	}
	p.Why += trouble
}

// tryTrouble says what a try did not go well for.
func tryTrouble(t *ledger.PlaceRun) string {
	switch t.Result {
	case ledger.Done:
		return ""
	case ledger.Interrupted:
		return withReason("the last try was stopped", t.Message)
	}
	return withReason("the last try failed", t.Message)
}

// inOneLine has all reasons of a run (ledger.JobRun) in one line.
func inOneLine(reasons string) string { return strings.ReplaceAll(reasons, "\n", "; ") }

// withReason adds to a sentence why it is so, if that is known.
func withReason(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// span writes a duration as people say it: "40 minutes", "26 hours 5 minutes", "3 days
// 1 hour".
func span(d time.Duration) string {
	minutes := int64(d / time.Minute)
	days, hours := minutes/(24*60), minutes/60%24
	switch {
	case days >= 3:
		return join(days, "day", hours, "hour")
	case minutes >= 60:
		return join(minutes/60, "hour", minutes%60, "minute")
	}
	return join(minutes, "minute", 0, "")
}

// join writes two numbers with their units, the second only if there is anything.
func join(n int64, unit string, rest int64, smaller string) string {
	text := fmt.Sprintf("%d %s", n, unit)
	if n != 1 {
		text += "s"
	}
	if rest == 0 {
		return text
	}
	return text + " " + join(rest, smaller, 0, "")
}
