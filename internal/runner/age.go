package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
)

// What counts for how often a job usually runs.
const (
	// sameTime is how close together what is one for this may be: somebody tries
	// something out, or a timer is very busy.
	sameTime = time.Hour
	// usualGaps is how many times between two runs are looked at, the newest.
	usualGaps = 10
	// fewGaps is how many of them say too little for one to be taken for a holiday.
	fewGaps = 4
	// leastUsual is how old everything may be that nobody has said anything of.
	leastUsual = 26 * time.Hour
	// mostUnknown is how old a success may be where there is next to nothing to
	// compare with.
	mostUnknown = 8 * 24 * time.Hour
)

// usualLimit is how old the last success at a place may be where neither the job nor
// anybody else says it. Whatever starts the job, a timer, a crontab or a person, does
// so with some regularity, and all that is lost with it is that.
func usualLimit(j *config.Job, p PlaceStatus, runs []ledger.JobRun) time.Duration {
	var begun, made []time.Time
	for _, r := range runs {
		begun = append(begun, r.Begun)
		if at := find(r.Places, p); at != nil && !at.AsOf.IsZero() {
			made = append(made, at.AsOf)
		}
	}
	limit := usualAge(begun)
	if othersSnapshots(j) {
		limit = max(limit, usualAge(made))
	}
	return limit
}

// usualAge is how old something may be that came at the given times, the newest first:
// twice the longest time between two of the last, and two hours. Of more than a few, the
// very longest does not count, which may have been a holiday. It is 26 hours at least,
// and eight days where all that is known is of one day: who tries out what is to run
// each week does so several times in an evening.
func usualAge(times []time.Time) time.Duration {
	var gaps []time.Duration
	for i, last := 1, 0; i < len(times) && len(gaps) < usualGaps; i++ {
		// Also what the clock has turned around is skipped.
		if gap := times[last].Sub(times[i]); gap >= sameTime && !behind(times, last, i) {
			gaps, last = append(gaps, gap), i
		}
	}
	slices.Sort(gaps)
	all := len(gaps)
	ofOneDay := func(gaps []time.Duration) bool {
		var sum time.Duration
		for _, gap := range gaps {
			sum += gap
		}
		return all < usualGaps && sum <= 24*time.Hour
	}
	if ofOneDay(gaps) {
		return mostUnknown
	}
	longest := gaps[all-1]
	if all > fewGaps && !ofOneDay(gaps[:all-1]) {
		longest = gaps[all-2]
	}
	return max(2*longest+2*time.Hour, leastUsual)
}

// behind reports whether the clock was behind at times[i]: something came before it that
// was later, and not after times[last].
func behind(times []time.Time, last, i int) bool {
	return slices.ContainsFunc(times[i+1:], func(t time.Time) bool { return t.After(times[i]) && !t.After(times[last]) })
}

// othersSnapshots reports whether others make the snapshots of a job, so that its
// success says nothing of how new they are.
func othersSnapshots(j *config.Job) bool { return j.Kind != config.Calendar && !j.Snapshot }

// tooOld says that something of a place is older than it may be, or in the future;
// empty if neither is so.
func (p *PlaceStatus) tooOld(what string, age time.Duration) string {
	switch {
	case age < -slack:
		return fmt.Sprintf("%s is %s in the future: the clock was set back, or was wrong then", what, span(-age))
	case age <= p.Limit:
		return ""
	case p.Usual:
		return fmt.Sprintf("%s is %s old, and may be %s as long as neither every nor max-age says more", what, span(age), span(p.Limit))
	}
	return fmt.Sprintf("%s is %s old, and may be %s", what, span(age), span(p.Limit))
}

// placeID is what tells the place of a destination, as it is called for a source, from
// others that have had its name. The text itself may have a password in it.
func placeID(j *config.Job, sourceName, destination string) string {
	i := slices.IndexFunc(j.Destinations, func(d config.Destination) bool {
		return strings.ReplaceAll(d.Name, "{source}", sourceName) == destination
	})
	if destination == "" || i < 0 || j.Destinations[i].Place == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(j.Destinations[i].Place))
	return hex.EncodeToString(sum[:8])
}

// stays forgets what is known of a place that had the name of this one. Where a run has
// not noted which place it was, it was this one.
func (p *PlaceStatus) stays(j *config.Job) {
	here := placeID(j, config.SourceName(p.Source), p.Destination)
	for _, noted := range []**ledger.PlaceRun{&p.Success, &p.Try} {
		if *noted != nil && here != "" && (*noted).Place != "" && (*noted).Place != here {
			*noted, p.Moved = nil, true
		}
	}
}
