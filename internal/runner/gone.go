package runner

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
)

// keepGone is how long a source that has gone is late. Somebody who was away sees it,
// and who has deleted it on purpose need not say so.
const keepGone = 30 * 24 * time.Hour

// gone are the places of sources that a pattern or an outer source stood for and no
// longer does, as far as there were successes. They are late when their last success
// gets too old, like any other; thirty days later, and where they are excluded, they are
// forgotten. Shown are those places that are not gone.
func gone(j *config.Job, successes, tries []ledger.PlaceRun, runs []ledger.JobRun, shown []PlaceStatus, limit func(PlaceStatus) time.Duration, now time.Time) []PlaceStatus {
	since := wholeRun(runs)
	seen := map[string]time.Time{} // when a run was last about a source
	for _, t := range tries {
		if t.Ended.After(seen[t.Source]) {
			seen[t.Source] = t.Ended
		}
	}
	var places []PlaceStatus
	for _, success := range successes {
		p := PlaceStatus{Source: success.Source, Destination: success.Destination, Success: &success, Gone: true}
		p.Try = find(tries, p)
		switch {
		case slices.ContainsFunc(shown, func(o PlaceStatus) bool { return o.Source == p.Source }),
			p.Try == nil || p.Try.Run >= since,
			!foundOnce(j, p.Source),
			p.Destination != "" && !slices.Contains(destinationsFor(j, p.Source), p.Destination):
			continue
		}
		last := seen[p.Source]
		p.Limit, p.Age = limit(p), now.Sub(success.Ended)
		if now.Sub(last) > p.Limit+keepGone {
			continue
		}
		p.Late = p.Age > p.Limit || p.Age < -slack
		p.Why = fmt.Sprintf("it has gone: no run has found it for %s; exclude says that this is meant", span(max(now.Sub(last), 0)))
		places = append(places, p)
	}
	return places
}

// destinationsFor are what the destinations of a job are called for a source.
func destinationsFor(j *config.Job, source string) []string {
	var all []string
	for _, d := range j.Destinations {
		all = append(all, strings.ReplaceAll(d.Name, "{source}", config.SourceName(source)))
	}
	return all
}

// foundOnce tells whether the sources of a job that stand for several stand for a path
// too, and nothing excludes it.
func foundOnce(j *config.Job, source string) bool {
	for _, typed := range j.Sources {
		typed = bare(typed)
		if !j.Nested && !isPattern(typed) || typed == source || !standsFor(typed, j.Nested, source) {
			continue
		}
		return !excluded(j, typed, source)
	}
	return false
}

// excluded tells whether a path is excluded, or one on the way to it from what is typed.
func excluded(j *config.Job, typed, name string) bool {
	for ; standsFor(typed, j.Nested, name); name = path.Dir(name) {
		for _, pattern := range j.Exclude {
			if ok, _ := path.Match(path.Clean(pattern), name); ok {
				return true
			}
		}
		if name == path.Dir(name) {
			break
		}
	}
	return false
}
