package runner

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/config"
)

func TestLook(t *testing.T) {
	plain := config.Job{Name: "j", Kind: config.Backup, Snapshot: true, Sources: []string{"/home"}, Destinations: []config.Destination{{Name: "nas"}}}
	with := func(change func(*config.Job)) config.Job {
		j := plain
		change(&j)
		return j
	}
	daily := with(func(j *config.Job) { j.Every = 24 * time.Hour })
	two := with(func(j *config.Job) { j.Destinations = []config.Destination{{Name: "nas"}, {Name: "usb"}} })
	pattern := with(func(j *config.Job) { j.Sources = []string{"/srv/*", "/home/"} })
	others := with(func(j *config.Job) { j.Snapshot, j.Every = false, 24*time.Hour })
	moved := with(func(j *config.Job) { j.Destinations = []config.Destination{{Name: "nas", Place: "ssh://nas/b"}} })
	there := placeID(&moved, "home", "nas")
	const killed = "the last run was killed, or the machine went off"
	for name, c := range map[string]struct {
		job     config.Job
		maxAge  time.Duration
		history string
		running bool
		want    string
	}{
		"never ran": {job: daily, want: `
j: next 11-20 12:00
LATE /home> never ran
LATE /home>nas never ran`},
		"never ran, nothing said of when": {job: plain, want: `
j:
LATE /home> never ran
LATE /home>nas never ran`},
		"the first run goes on": {job: plain, running: true, history: `-1h killed: /home done`, want: `
j: running
fine /home>
LATE /home>nas never succeeded: the first run is going on`},
		"the first run is about to begin": {job: plain, running: true, want: `
j: running
LATE /home> never succeeded: the first run is going on
LATE /home>nas never succeeded: the first run is going on`},
		"all well": {job: daily, history: `
			-48h failed (x): /home failed (y)
			-24h done: /home done, /home>nas done`, want: `
j: next 11-20 12:00
fine /home>
fine /home>nas`},
		"as old as allowed": {job: daily, history: `-30h1m done: /home done, /home>nas done`, want: `
j: next 11-20 05:59
fine /home>
fine /home>nas`},
		"older than allowed": {job: daily, history: `-30h2m done: /home done, /home>nas done`, want: `
j: next 11-20 05:58
LATE /home> the last success is 30 hours 1 minute old, and may be 30 hours
LATE /home>nas the last success is 30 hours 1 minute old, and may be 30 hours`},
		"often, with some room": {job: with(func(j *config.Job) { j.Every = time.Hour }), history: `-3h done: /home done, /home>nas done`, want: `
j: next 11-20 10:00
fine /home>
fine /home>nas`},
		"older than the job allows": {job: with(func(j *config.Job) { j.Every, j.MaxAge = 24*time.Hour, 2*time.Hour }), history: `-121m done: /home done, /home>nas done
			-2h failed: /home done, /home>nas failed (full)`, want: `
j: next 11-21 10:00 (the last run failed)
fine /home>
fine! /home>nas the last try failed: full`},
		"older than asked": {job: daily, maxAge: 72 * time.Hour, history: `-121h done: /home done, /home>nas done`, want: `
j: next 11-16 11:00
LATE /home> the last success is 5 days old, and may be 3 days
LATE /home>nas the last success is 5 days old, and may be 3 days`},
		"older than asked, but not than the job allows": {job: with(func(j *config.Job) { j.MaxAge = 900 * time.Hour }), maxAge: 72 * time.Hour, history: `-121h done: /home done, /home>nas done`, want: `
j:
LATE /home> the last success is 5 days old, and may be 3 days
LATE /home>nas the last success is 5 days old, and may be 3 days`},
		"old, and nothing says how old": {job: plain, history: `-9000h done: /home done, /home>nas done`, want: `
j:
LATE /home> the last success is 374 days 23 hours old, and may be 8 days as long as neither every nor max-age says more
LATE /home>nas the last success is 374 days 23 hours old, and may be 8 days as long as neither every nor max-age says more`},
		"nothing says how old, and what ran every night does not any more": {job: plain, history: `
			-248h done: /home done, /home>nas done
			-224h done: /home done, /home>nas done
			-200h done: /home done, /home>nas done
			-123h done: /home done, /home>nas done
			-99h done: /home done, /home>nas done
			-75h1m done: /home done, /home>nas done
			-51h2m done: /home done, /home>nas done`, want: `
j:
LATE /home> the last success is 51 hours 1 minute old, and may be 50 hours as long as neither every nor max-age says more
LATE /home>nas the last success is 51 hours 1 minute old, and may be 50 hours as long as neither every nor max-age says more`},
		"nothing says how old, and a clock was years behind for a run": {job: plain, history: `
			-123h done: /home done, /home>nas done
			-99h done: /home done, /home>nas done
			-75h done: /home done, /home>nas done
			-60000h done: /home done, /home>nas done
			-51h2m done: /home done, /home>nas done`, want: `
j:
LATE /home> the last success is 51 hours 1 minute old, and may be 50 hours as long as neither every nor max-age says more
LATE /home>nas the last success is 51 hours 1 minute old, and may be 50 hours as long as neither every nor max-age says more`},
		"nothing says how old, and a clock was years behind at first": {job: plain, history: `
			-60000h done: /home done, /home>nas done
			-123h done: /home done, /home>nas done
			-99h done: /home done, /home>nas done
			-75h done: /home done, /home>nas done
			-53h done: /home done, /home>nas done
			-51h2m done: /home done, /home>nas done`, want: `
j:
LATE /home> the last success is 51 hours 1 minute old, and may be 50 hours as long as neither every nor max-age says more
LATE /home>nas the last success is 51 hours 1 minute old, and may be 50 hours as long as neither every nor max-age says more`},
		"nothing says how old, and it was tried out": {job: plain, history: `
			-150h done: /home done, /home>nas done
			-148h done: /home done, /home>nas done
			-145h done: /home done, /home>nas done`, want: `
j:
fine /home>
fine /home>nas`},
		"nothing says how old, and it was tried out before the first timer": {job: plain, history: `
			-150h done: /home done, /home>nas done
			-148h done: /home done, /home>nas done
			-145h done: /home done, /home>nas done
			-30h done: /home done, /home>nas done`, want: `
j:
fine /home>
fine /home>nas`},
		"nothing says how old, and a night was left out": {job: plain, history: `
			-123h done: /home done, /home>nas done
			-99h done: /home done, /home>nas done
			-75h done: /home done, /home>nas done
			-49h done: /home done, /home>nas done`, want: `
j:
fine /home>
fine /home>nas`},
		"failed, nothing says how old": {job: plain, history: `-2h done: /home done, /home>nas done
			-1h failed (job j is not complete): /home done, /home>nas failed (no route to host)`, want: `
j: (the last run failed: job j is not complete)
fine /home>
LATE! /home>nas the last try failed: no route to host`},
		"failed for long": {job: daily, history: `-72h done: /home done, /home>nas done
			-48h failed: /home done, /home>nas failed (full)
			-24h failed: /home done, /home>nas failed (full)`, want: `
j: next 11-20 12:00 (the last run failed)
fine /home>
LATE! /home>nas the last success is 71 hours 59 minutes old, and may be 30 hours; the last try failed: full`},
		"never succeeded": {job: plain, history: `-1h failed: /home done, /home>nas failed (full)`, want: `
j: (the last run failed)
fine /home>
LATE! /home>nas never succeeded: the last try failed: full`},
		"failed before it came to anything": {job: plain, history: `-2h done: /home done, /home>nas done
			-1h failed (the program of before: exit status 1)`, want: `
j: (the last run failed: the program of before: exit status 1)
LATE! /home> the last run failed: the program of before: exit status 1
LATE! /home>nas the last run failed: the program of before: exit status 1`},
		"failed before it came to anything, but young": {job: daily, history: `-2h done: /home done, /home>nas done
			-1h failed (the program of before: exit status 1)`, want: `
j: next 11-21 11:00 (the last run failed: the program of before: exit status 1)
fine! /home> the last run failed: the program of before: exit status 1
fine! /home>nas the last run failed: the program of before: exit status 1`},
		"failed before it came to anything, and it runs again": {job: plain, running: true, history: `-2h done: /home done, /home>nas done
			-1h failed (frozen)
			-1m killed: /home done`, want: `
j: running (the last run failed: frozen)
fine /home>
LATE! /home>nas the last run failed: frozen`},
		"failed afterwards": {job: plain, history: `-1h failed (the program of after: killed): /home done, /home>nas done`, want: `
j: (the last run failed: the program of after: killed)
fine /home>
fine /home>nas`},
		"killed": {job: plain, history: `-2h done: /home done, /home>nas done
			-1h killed: /home done`, want: `
j: (` + killed + `)
fine /home>
LATE! /home>nas ` + killed},
		"killed, but young": {job: daily, history: `-2h done: /home done, /home>nas done
			-1h killed`, want: `
j: next 11-21 11:00 (` + killed + `)
fine! /home> ` + killed + `
fine! /home>nas ` + killed},
		"killed at first": {job: daily, history: `-1h killed`, want: `
j: next 11-21 11:00 (` + killed + `)
LATE! /home> never succeeded: ` + killed + `
LATE! /home>nas never succeeded: ` + killed},
		"interrupted": {job: plain, history: `-2h done: /home done, /home>nas done
			-1h interrupted (stopped by a signal): /home done, /home>nas interrupted (stopped by a signal)`, want: `
j: (the last run was stopped: stopped by a signal)
fine /home>
LATE! /home>nas the last try was stopped: stopped by a signal`},
		"running": {job: daily, running: true, history: `-26h done: /home done, /home>nas done
			-1h killed: /home done`, want: `
j: running next 11-21 11:00
fine /home>
fine /home>nas`},
		"running for too long": {job: daily, running: true, history: `-40h done: /home done, /home>nas done
			-35h killed: /home done`, want: `
j: running next 11-20 01:00
LATE /home> the last success is 34 hours 59 minutes old, and may be 30 hours
LATE /home>nas the last success is 39 hours 59 minutes old, and may be 30 hours`},
		"a run begins, and is not noted yet": {job: plain, running: true, history: `-2h done: /home done, /home>nas done
			-1h failed: /home done, /home>nas failed`, want: `
j: running (the last run failed)
fine /home>
LATE! /home>nas the last try failed`},
		"the clock was set back": {job: daily, history: `720h done: /home done, /home>nas done`, want: `
j: next 11-20 12:00
LATE /home> the last success is 30 days in the future: the clock was set back, or was wrong then
LATE /home>nas the last success is 30 days in the future: the clock was set back, or was wrong then`},
		"the clock was set back, nothing says how old": {job: plain, history: `1h done: /home done, /home>nas done`, want: `
j:
LATE /home> the last success is 1 hour 1 minute in the future: the clock was set back, or was wrong then
LATE /home>nas the last success is 1 hour 1 minute in the future: the clock was set back, or was wrong then`},
		"the clock was set back, and then it succeeded": {job: daily, history: `720h done: /home done, /home>nas done
			-1h done: /home done, /home>nas done`, want: `
j: next 11-21 11:00
fine /home>
fine /home>nas`},
		"the clock was set back, and then it failed": {job: daily, history: `720h done: /home done, /home>nas done
			-1h failed: /home done, /home>nas failed (full)`, want: `
j: next 11-21 11:00 (the last run failed)
fine /home>
LATE! /home>nas the last success is 30 days in the future: the clock was set back, or was wrong then; the last try failed: full`},
		"clocks differ a little": {job: daily, history: `4m done: /home done, /home>nas done`, want: `
j: next 11-21 12:04
fine /home>
fine /home>nas`},
		"a destination by another name": {job: with(func(j *config.Job) { j.Destinations = []config.Destination{{Name: "new"}} }), history: `-1h done: /home done, /home>nas done`, want: `
j:
fine /home>
LATE /home>new never tried: it was not in the configuration at the last run`},
		"a destination more": {job: two, history: `-1h done: /home done, /home>nas done`, want: `
j:
fine /home>
fine /home>nas
LATE /home>usb never tried: it was not in the configuration at the last run`},
		"a source by another name": {job: plain, history: `-1h done: /data done, /data>nas done`, want: `
j:
LATE /home> never tried: it was not in the configuration at the last run
LATE /home>nas never tried: it was not in the configuration at the last run`},
		"the last run was not about it": {job: plain, history: `-3h done: /home done, /home>nas done
			-2h done: /home done`, want: `
j:
fine /home>
LATE! /home>nas the last run was not about it`},
		"that, but young": {job: daily, history: `-3h done: /home done, /home>nas done
			-2h done: /home done`, want: `
j: next 11-21 10:00
fine /home>
fine! /home>nas the last run was not about it`},
		"that, and it had failed before": {job: plain, history: `-3h failed: /home done, /home>nas failed (full)
			-2h done: /home done`, want: `
j:
fine /home>
LATE! /home>nas never succeeded: the last try failed: full`},
		"another job": {job: with(func(j *config.Job) { j.Name = "k" }), history: `-1h done: /home done, /home>nas done`, want: `
k:
LATE /home> never ran
LATE /home>nas never ran`},
		"others make the snapshots": {job: with(func(j *config.Job) { j.Snapshot = false }), history: `-1h done: /home>nas done`, want: `
j:
fine /home>nas`},
		"others make no snapshots any more": {job: others, history: `
			-25h done: /home done @-49h, /home>nas done @-49h
			-1h done: /home done @-49h, /home>nas done @-49h`, want: `
j: next 11-21 11:00
LATE /home> the newest snapshot is 49 hours old, and may be 30 hours: others are to make them
LATE /home>nas the newest snapshot is 49 hours old, and may be 30 hours: others are to make them`},
		"others make no snapshots any more, older than asked": {job: others, maxAge: 48 * time.Hour, history: `-1h done: /home>nas done @-49h`, want: `
j: next 11-21 11:00
LATE /home>nas the newest snapshot is 49 hours old, and may be 48 hours: others are to make them`},
		"others make no snapshots, and the job does not run either": {job: others, history: `-31h done: /home>nas done @-49h`, want: `
j: next 11-20 05:00
LATE /home>nas the last success is 30 hours 59 minutes old, and may be 30 hours`},
		"others make snapshots, as of which they fail to arrive": {job: others, history: `
			-25h done: /home>nas done @-26h
			-1h failed: /home>nas failed (full) @-2h`, want: `
j: next 11-21 11:00 (the last run failed)
fine! /home>nas the last try failed: full`},
		"others make snapshots by a clock that is wrong": {job: others, history: `-1h done: /home>nas done @6m`, want: `
j: next 11-21 11:00
LATE /home>nas the newest snapshot is 6 minutes in the future: the clock was set back, or was wrong then: others are to make them`},
		"others make snapshots now and then, and nothing says how often": {job: with(func(j *config.Job) { j.Snapshot = false }), history: `
			-73h done: /home>nas done @-200h
			-49h done: /home>nas done @-200h
			-25h done: /home>nas done @-100h
			-1h done: /home>nas done @-100h`, want: `
j:
fine /home>nas`},
		"others make no snapshots any more, and nothing says how often": {job: with(func(j *config.Job) { j.Snapshot = false }), history: `
			-73h done: /home>nas done @-148h
			-49h done: /home>nas done @-124h
			-25h done: /home>nas done @-100h
			-1h done: /home>nas done @-100h`, want: `
j:
LATE /home>nas the newest snapshot is 4 days 4 hours old, and may be 50 hours as long as neither every nor max-age says more: others are to make them`},
		"nothing has changed for long": {job: with(func(j *config.Job) { j.OnlyIfChanged, j.Every = true, 24*time.Hour }), history: `
			-1h done: /home done @-900h, /home>nas done @-900h`, want: `
j: next 11-21 11:00
fine /home>
fine /home>nas`},
		"a destination at another place": {job: moved, history: `
			-2h done: /home done, /home>nas done #8c7dd922ad47494f
			-1h done: /home done, /home>nas done #8c7dd922ad47494f`, want: `
j:
fine /home>
LATE /home>nas never tried: the configuration had another place for it at the last run`},
		"a destination at another place, and the last run has failed": {job: moved, history: `
			-2h done: /home done, /home>nas done #8c7dd922ad47494f
			-1h failed: /home done, /home>nas failed (full) #8c7dd922ad47494f`, want: `
j: (the last run failed)
fine /home>
LATE! /home>nas never succeeded: the last run failed; the last success was where the configuration had it before`},
		"a destination at another place, where it fails": {job: moved, history: `
			-2h done: /home done, /home>nas done #8c7dd922ad47494f
			-1h failed: /home done, /home>nas failed (full) #` + there, want: `
j: (the last run failed)
fine /home>
LATE! /home>nas never succeeded: the last try failed: full; the last success was where the configuration had it before`},
		"a destination at another place, and back again": {job: moved, history: `
			-3h done: /home done, /home>nas done #` + there + `
			-2h failed: /home done, /home>nas failed (full) #8c7dd922ad47494f
			-1h done: /home done, /home>nas done #` + there, want: `
j:
fine /home>
fine /home>nas`},
		"a destination at a place that was not noted": {job: moved, history: `-1h done: /home done, /home>nas done`, want: `
j:
fine /home>
fine /home>nas`},
		"others make the snapshots, which are pruned here": {job: with(func(j *config.Job) { j.Snapshot = false }), history: `-1h failed: /home failed (read-only), /home>nas done`, want: `
j: (the last run failed)
LATE! /home> never succeeded: the last try failed: read-only
fine /home>nas`},
		"they were made here once": {job: with(func(j *config.Job) { j.Snapshot = false }), history: `-2h done: /home done, /home>nas done
			-1h done: /home>nas done`, want: `
j:
fine /home>nas`},
		"only snapshots": {job: with(func(j *config.Job) { j.Destinations = nil }), history: `-1h failed (full): /home failed (full)`, want: `
j: (the last run failed: full)
LATE! /home> never succeeded: the last try failed: full`},
		"left to remove for long": {job: with(func(j *config.Job) { j.Destinations, j.Every = nil, 24*time.Hour }), history: `
			-800h done: /home done
			-750h done: /home done (1 snapshot is left)
			-1h done: /home done (2 snapshots are left)`, want: `
j: next 11-21 11:00
LATE /home> 2 snapshots are left; the last run that had nothing to leave was 33 days 7 hours ago`},
		"left to remove, not yet for long": {job: with(func(j *config.Job) { j.Destinations, j.Every = nil, 24*time.Hour }), history: `
			-800h done: /home done (1 snapshot is left)
			-700h done: /home done
			-1h done: /home done (2 snapshots are left)`, want: `
j: next 11-21 11:00
fine /home> 2 snapshots are left; the last run that had nothing to leave was 29 days 3 hours ago`},
		"left to remove from the first run on": {job: with(func(j *config.Job) { j.Destinations, j.Every = nil, 24*time.Hour }), history: `
			-800h done: /home done (1 snapshot is left)
			-1h done: /home done (2 snapshots are left)`, want: `
j: next 11-21 11:00
LATE /home> 2 snapshots are left; no run has had nothing to leave since the first, 33 days 7 hours ago`},
		"a pattern": {job: pattern, history: `
			-3h done: /srv/old done, /srv/old>nas done, /srv/www done, /srv/www>nas done, /home done, /home>nas done
			-2h failed: /srv/db done, /srv/db>nas failed (full), /srv/www done, /srv/www>nas done, /home done, /home>nas done
			-1h interrupted: /srv/db done, /srv/db>nas done`, want: `
j: (the last run was stopped)
fine /srv/db>
fine /srv/db>nas
LATE! /srv/www> the last run was stopped
LATE! /srv/www>nas the last run was stopped
LATE! /home> the last run was stopped
LATE! /home>nas the last run was stopped
LATE! /srv/*> the last run was stopped
fine /srv/old> it has gone: no run has found it for 2 hours 59 minutes; exclude says that this is meant
fine /srv/old>nas it has gone: no run has found it for 2 hours 59 minutes; exclude says that this is meant`},
		"a pattern, killed before all that matches is known": {job: with(func(j *config.Job) { j.Sources, j.Every = []string{"/srv/*"}, 24*time.Hour }), history: `
			-25h killed: /srv/db done, /srv/db>nas done
			-1h killed: /srv/db done, /srv/db>nas done`, want: `
j: next 11-21 11:00 (` + killed + `)
fine /srv/db>
fine /srv/db>nas
LATE! /srv/*> never succeeded: ` + killed},
		"a pattern, killed since": {job: with(func(j *config.Job) { j.Sources, j.Every, j.Nested = []string{"/srv"}, 24*time.Hour, true }), history: `
			-49h failed: /srv done, /srv>nas failed (full)
			-25h killed: /srv done, /srv>nas done
			-1h killed: /srv done, /srv>nas done`, want: `
j: next 11-21 11:00 (` + killed + `)
fine /srv>
fine /srv>nas
LATE! /srv/...> the last success is 48 hours 59 minutes old, and may be 30 hours; ` + killed},
		"a pattern of which nothing is known": {job: pattern, want: `
j:
LATE /srv/*> never ran
LATE /srv/*>nas never ran
LATE /home> never ran
LATE /home>nas never ran`},
		"destinations with the source in them": {job: with(func(j *config.Job) {
			j.Sources, j.Destinations = []string{"/srv/*", "ssh://host/data"}, []config.Destination{{Name: "nas/{source}/"}}
		}), history: `-1h done: /srv/www done, /srv/www>nas/srv-www/ done, ssh://host/data done, ssh://host/data>nas/data/ done`, want: `
j:
fine /srv/www>
fine /srv/www>nas/srv-www/
fine ssh://host/data>
fine ssh://host/data>nas/data/`},
		"destinations with the source in them, of which nothing is known": {job: with(func(j *config.Job) {
			j.Sources, j.Destinations = []string{"/srv/*", "/"}, []config.Destination{{Name: "nas/{source}/"}}
		}), want: `
j:
LATE /srv/*> never ran
LATE /srv/*>nas/{source}/ never ran
LATE /> never ran
LATE />nas/root/ never ran`},
		"what matched is called like a pattern": {job: with(func(j *config.Job) {
			j.Sources, j.Destinations = []string{"/srv/*"}, []config.Destination{{Name: "nas/{source}/"}}
		}), history: `-1h done: /srv/a[1]? done, /srv/a[1]?>nas/srv-a[1]?/ done`, want: `
j:
fine /srv/a[1]?>
fine /srv/a[1]?>nas/srv-a[1]?/`},
		"two patterns, and a source with a slash": {job: with(func(j *config.Job) { j.Sources = []string{"/srv/*", "/data/*", "/home"} }), history: `
			-1h done: /data/a done, /data/a>nas done, /srv/b done, /srv/b>nas done, /home/ done, /home/>nas done`, want: `
j:
fine /srv/b>
fine /srv/b>nas
fine /data/a>
fine /data/a>nas
fine /home/>
fine /home/>nas`},
		"a source that can be written in several ways": {job: with(func(j *config.Job) { j.Sources = []string{"file:///home", "/srv//./www/"} }), history: `
			-1h done: /home done, /home>nas done, /srv/www done, /srv/www>nas done`, want: `
j:
fine /home>
fine /home>nas
fine /srv/www>
fine /srv/www>nas`},
		"a pattern more": {job: with(func(j *config.Job) { j.Sources = []string{"/srv/*", "/data/*"} }), history: `
			-1h done: /srv/b done, /srv/b>nas done`, want: `
j:
fine /srv/b>
fine /srv/b>nas
LATE /data/*> never tried: it was not in the configuration at the last run
LATE /data/*>nas never tried: it was not in the configuration at the last run`},
		"a source more, with what lies in it": {job: with(func(j *config.Job) { j.Sources, j.Nested = []string{"/srv/*/", "/data"}, true }), history: `
			-1h done: /srv/b done, /srv/b>nas done, /srv/b/in/it done, /srv/b/in/it>nas done`, want: `
j:
fine /srv/b>
fine /srv/b>nas
fine /srv/b/in/it>
fine /srv/b/in/it>nas
LATE /data> never tried: it was not in the configuration at the last run
LATE /data>nas never tried: it was not in the configuration at the last run`},
		"a pattern less": {job: with(func(j *config.Job) { j.Sources = []string{"/srv/*"} }), history: `
			-1h failed: /srv/b done, /srv/b>nas done, /data/a done, /data/a>nas failed (full)`, want: `
j: (the last run failed)
fine /srv/b>
fine /srv/b>nas`},
		"no pattern": {job: with(func(j *config.Job) { j.Sources = []string{"/home", "ssh://host/a[1]", "ssh://host/a[2]"} }), history: `
			-1h done: /home done, /home>nas done, ssh://host/a[1] done, ssh://host/a[1]>nas done`, want: `
j:
fine /home>
fine /home>nas
fine ssh://host/a[1]>
fine ssh://host/a[1]>nas
LATE ssh://host/a[2]> never tried: it was not in the configuration at the last run
LATE ssh://host/a[2]>nas never tried: it was not in the configuration at the last run`},
		"nested": {job: with(func(j *config.Job) { j.Nested = true }), history: `
			-1h done: /home done, /home>nas done, /home/a done, /home/a>nas done`, want: `
j:
fine /home>
fine /home>nas
fine /home/a>
fine /home/a>nas`},
		"nested, of which nothing is known": {job: with(func(j *config.Job) { j.Nested = true }), history: `-1h failed (x)`, want: `
j: (the last run failed: x)
LATE! /home> never succeeded: the last run failed: x
LATE! /home>nas never succeeded: the last run failed: x`},
		"a calendar": {job: with(func(j *config.Job) { j.Kind, j.Days = config.Calendar, []int{1, 31} }), history: `
			-1h done: /home>nas done`, want: `
j: next 12-01 00:00
fine /home>nas`},
		"a calendar that has failed": {job: with(func(j *config.Job) { j.Kind, j.Days = config.Calendar, []int{1, 15} }), history: `
			-240h done: /home>nas done
			-121h failed: /home>nas failed (full)`, want: `
j: next 11-15 00:00 (the last run failed)
LATE! /home>nas the last try failed: full`},
		"a calendar that never succeeded": {job: with(func(j *config.Job) { j.Kind, j.Days = config.Calendar, []int{1, 15} }), history: `
			-1h failed: /home>nas failed (full)`, want: `
j: next 11-20 12:00 (the last run failed)
LATE! /home>nas never succeeded: the last try failed: full`},
		"a calendar that says how often": {job: with(func(j *config.Job) { j.Kind, j.Days, j.Every = config.Calendar, []int{1}, 24*time.Hour }), history: `
			-1h failed: /home>nas failed (full)
			-30m done: /home>nas done`, want: `
j: next 11-21 11:30
fine /home>nas`},
		"a calendar that never ran": {job: with(func(j *config.Job) { j.Kind, j.Days = config.Calendar, []int{1} }), want: `
j: next 11-20 12:00
LATE /home>nas never ran`},
	} {
		t.Run(name, func(t *testing.T) {
			l := history(t, "j", c.history)
			running := func(job string) bool { return c.running && job == c.job.Name }
			s, err := Look(&config.File{Jobs: []config.Job{c.job}}, l, noon, c.maxAge, running)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.TrimPrefix(c.want, "\n")+"\n", said(s)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			late, all := s.Late()
			if late != strings.Count(c.want, "LATE") || all != late+strings.Count(c.want, "\nfine") {
				t.Errorf("%d of %d are late", late, all)
			}
		})
	}
}

func TestLookWithoutLedger(t *testing.T) {
	f := &config.File{Jobs: []config.Job{
		{Name: "a", Sources: []string{"/a"}, Snapshot: true},
		{Name: "b", Sources: []string{"ssh://host/b?[*]"}, Destinations: []config.Destination{{Name: "x"}}},
	}}
	s, err := Look(f, nil, noon, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := said(s), "a:\nLATE /a> never ran\nb:\nLATE ssh://host/b?[*]>x never ran\n"; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if s, err := Look(&config.File{}, nil, noon, 0, nil); err != nil || len(s.Jobs) != 0 {
		t.Errorf("of no jobs: %v, %v", s, err)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 minutes", time.Minute: "1 minute", 59*time.Minute + 59*time.Second: "59 minutes", time.Hour: "1 hour",
		26*time.Hour + 5*time.Minute: "26 hours 5 minutes", 72 * time.Hour: "3 days", 97*time.Hour + time.Minute: "4 days 1 hour",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
