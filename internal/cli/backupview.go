package cli

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

// backupView shows people or machines what a backup does. Its methods are called
// from one goroutine at a time, but for rows.
type backupView struct {
	env *Env
	o   *backupOptions
	out *records

	ctx     context.Context // of the run
	release func()          // lets the machine sleep again

	unattended bool // a part of a job, which has made the snapshot before
	source     site
	folder     string            // of its snapshots, as the engine calls it
	archives   map[string]bool   // names of destinations
	whole      map[string]string // what was typed, by names of destinations

	mu    sync.Mutex // held while nothing is written
	order []*targetView
	bars  *bars             // nil unless drawn
	going map[string]string // why a snapshot is removed, by its place and path
}

// targetView is what is shown of one destination.
type targetView struct {
	name     string
	progress *progress
	outlook  *job.Outlook
	begun    bool // something is or was drawn
	ended    bool
}

func newBackupView(env *Env, o *backupOptions) *backupView {
	v := &backupView{env: env, o: o, out: newRecords(env.Stdout), archives: map[string]bool{}, whole: map[string]string{}, going: map[string]string{}}
	v.draw()
	return v
}

// draw makes ready to draw, if that is wanted.
func (v *backupView) draw() {
	if !v.o.json && !v.o.noProgress && v.env.quiet == 0 && v.env.canDraw() {
		v.bars = newBars(v.env, v.rows)
	}
}

// places says which places the run is about.
func (v *backupView) places(r *backupRun) {
	v.source = r.source
	for _, t := range r.targets {
		v.archives[t.name] = t.HasTrash()
		if t.Scheme == "shell" {
			v.whole[t.name] = validText(place.Redact(t.Arg))
		}
	}
}

// opened says what the engine calls the directory of the snapshots.
func (v *backupView) opened(src *opened) { v.folder = src.String() }

// named is a destination as programs are told of it.
func (v *backupView) named(name string) string {
	if whole, ok := v.whole[name]; ok {
		return whole
	}
	return validText(place.Redact(name)) // it may come from a note
}

// where is how people know a place of which the engine speaks.
func (v *backupView) where(place string) string {
	if place == v.folder {
		return "source"
	}
	return place
}

func (v *backupView) say(format string, args ...any) { v.env.Log.Info(fmt.Sprintf(format, args...)) }

// would begins a line about what is only planned.
func (v *backupView) would() string { return map[bool]string{true: "WOULD: "}[v.o.dryRun] }

// at is the view of a destination.
func (v *backupView) at(name string) *targetView {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, t := range v.order {
		if t.name == name {
			return t
		}
	}
	p := &progress{env: v.env, json: v.o.json, out: v.out, quiet: v.env.quiet > 0, bars: v.bars, destination: v.named(name), prefix: name + ": "}
	t := &targetView{name: name, progress: p}
	v.order = append(v.order, t)
	return t
}

// close takes away what is drawn, and lets the machine sleep.
func (v *backupView) close() {
	v.bars.close()
	if v.release != nil {
		v.release()
		v.release = nil
	}
}

// targetRows is how many destinations are drawn.
const targetRows = 5

// rows are the destinations to which something is on its way: a row for each
// stream of one, or for each of several one row.
func (v *backupView) rows(width int) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.env.Now()
	var busy []*targetView
	for _, t := range v.order {
		t.progress.mu.Lock()
		if len(t.progress.view.Flows) > 0 {
			busy = append(busy, t)
		}
		t.progress.mu.Unlock()
	}
	var rows []string
	for _, t := range busy[:min(len(busy), targetRows)] {
		p := t.progress
		p.mu.Lock()
		if len(busy) == 1 {
			rows = meterRows(&p.view, now, width)
		} else if len(p.view.Flows) > 0 { // its last step may have ended since
			rows = append(rows, targetRow(t.name, &p.view, now, width))
		}
		p.mu.Unlock()
	}
	if more := len(busy) - targetRows; more > 0 {
		rows = append(rows, cut(fmt.Sprintf("and %s more", plural(more, "destination", "destinations")), width))
	}
	return rows
}

// targetRow is "/mnt/bk [2/5] 20261120-231455: 1.2 GiB of ~2.6 GiB (45%), ...".
func targetRow(name string, m *meter.Meter, now time.Time, width int) string {
	f := m.Flows[0]
	head := cutLeft(printable(name), max(width/4, 10)) + " "
	if strings.HasPrefix(name, "shell://") { // of which the beginning tells more
		head = cut(printable(name), max(width/4, 10)) + " "
	}
	if more := len(m.Flows) - 1; more > 0 {
		return withBar(head+fmt.Sprintf("%d of %d, %d at a time: %s", m.Ended(), m.Steps, more+1, m.All(now)), m.Done, m.Whole, width)
	}
	return withBar(head+fmt.Sprintf("[%d/%d] %s: %s", f.Now.Step, f.Now.Steps, printable(f.Now.Path), f.Text(now)),
		f.Now.Bytes, snapshot.Size{Bytes: f.Now.Expected, Known: f.Now.Expected > 0}, width)
}

// firstRun tells of a dry run before the first backup.
func (v *backupView) firstRun(e *firstRunError) {
	if v.o.json {
		return // the result says that nothing is wrong
	}
	v.say("Nothing has been backed up from %s yet: the first run makes %s, and sends its first snapshot in full", v.source.Dir, e.dir)
}

// foretells says what a dry run does not reckon with: what is not there yet.
func (v *backupView) foretells() {
	if v.o.dryRun && !v.o.noSnapshot && !v.o.json {
		v.say("WOULD: %s -> %sYYYYMMDD-HHMMSS; what follows is about the snapshots that are there already", v.source.Dir, v.o.prefix)
	}
}

// The records of a backup, beside those of a sync.
type (
	// unlockedRecord is an unfinished transfer that is forgotten.
	unlockedRecord struct {
		Event       string `json:"event"` // "unlocked"
		Destination string `json:"destination"`
		Name        string `json:"name"`
		Parent      bool   `json:"parent"`
	}
	// takenRecord is the snapshot that was made.
	takenRecord struct {
		Event string      `json:"event"` // "taken"
		ID    snapshot.ID `json:"id"`
		Path  string      `json:"path"`
	}
	// backupPlanRecord is what a destination is going to get.
	backupPlanRecord struct {
		planRecord
		Destination string `json:"destination"`
	}
	// endedRecord is what became of a destination's transfers.
	endedRecord struct {
		Event       string `json:"event"` // "ended"
		Destination string `json:"destination"`
		OK          bool   `json:"ok"`
		Transferred int    `json:"transferred"`
		Kept        int    `json:"kept"`
		Bytes       int64  `json:"bytes"`
		Skipped     int64  `json:"skipped,omitzero"`
		Error       string `json:"error,omitempty"`
	}
	// backupRemovedRecord is a snapshot that is not due any more, and was removed,
	// or could not be.
	backupRemovedRecord struct {
		Event string      `json:"event"` // "removed"
		Place string      `json:"place"` // "source", or a destination
		ID    snapshot.ID `json:"id"`
		Path  string      `json:"path"`
		Error string      `json:"error,omitempty"`
	}
	// backupResultRecord is the last record of a backup.
	backupResultRecord struct {
		Event        string               `json:"event"` // "result"
		OK           bool                 `json:"ok"`
		Exit         int                  `json:"exit"`
		DryRun       bool                 `json:"dry_run"`
		Taken        string               `json:"taken,omitempty"` // the path of the snapshot
		Transferred  int                  `json:"transferred"`
		Bytes        int64                `json:"bytes"`
		Removed      int                  `json:"removed"` // at the source
		Destinations []targetResultRecord `json:"destinations"`
		Error        string               `json:"error,omitempty"`
	}
	targetResultRecord struct {
		Destination string `json:"destination"`
		OK          bool   `json:"ok"`
		Transferred int    `json:"transferred"`
		Kept        int    `json:"kept"`
		Removed     int    `json:"removed"`
		Bytes       int64  `json:"bytes"`
		Error       string `json:"error,omitempty"`
	}
)

func (v *backupView) unlocked(name, destination string, parent bool) {
	if v.o.json {
		v.out.put(unlockedRecord{Event: "unlocked", Destination: validText(place.Redact(destination)), Name: validText(name), Parent: parent})
		return
	}
	v.say("%sForgets the unfinished transfer of %s to %s%s", v.would(), name, place.Redact(destination), map[bool]string{true: " (as its parent)"}[parent])
}

func (v *backupView) taken(s snapshot.Snapshot) {
	if v.o.json {
		v.out.put(takenRecord{Event: "taken", ID: s.ID, Path: validText(s.Path)})
		return
	}
	v.say("%s -> %s", v.source.Dir, s.Path)
}

func (v *backupView) measuring(destination string, s plan.Step) {
	if v.o.json {
		return
	}
	from := "None"
	if !s.Edge.IsFull() {
		from = s.Parent.Path
	}
	v.say("%s: Measuring %s from %s", destination, s.Snapshot.Path, from)
}

// planned shows what a destination is going to get.
func (v *backupView) planned(destination string, o *job.Outlook) {
	t := v.at(destination)
	anew := t.outlook != nil
	t.outlook = o
	t.progress.begin()
	if v.o.json {
		r := recordOfPlan(o, v.o.dryRun)
		v.out.put(backupPlanRecord{r, v.named(destination)})
		return
	}
	for _, p := range o.Problems {
		if anew {
			break
		}
		v.env.Log.Warn(fmt.Sprintf("%s: %s cannot be transferred: %s", destination, o.SourceHolds.Where(p.Snapshot), p.Why))
	}
	switch {
	case len(o.Steps) > 0:
		size := "of unknown size"
		if total := o.Total(); total.Known {
			size = meter.Size(total)
		}
		v.say("%s%s: %s to transfer, %s", v.would(), destination, plural(len(o.Steps), "snapshot", "snapshots"), size)
	case !anew && len(o.Problems) == 0:
		v.say("%s: nothing to transfer", destination)
	}
	if v.o.dryRun {
		for _, s := range o.Steps {
			v.say("WOULD: %s: %s", destination, stepLine(o, s))
			v.say("       %s", s.Reason)
		}
		for _, line := range forecastLines(o.Forecast) {
			v.say("%s: %s", destination, line)
		}
	}
	v.env.warnFull(destination+": ", v.o.maxFull, o)
}

func (v *backupView) event(destination string, e transfer.Event) {
	t := v.at(destination)
	if e.Kind == transfer.StepBegun && e.Action == plan.Send && v.release == nil {
		v.release = v.env.KeepAwake(v.ctx, "Sending snapshots", v.env.Log)
	}
	if e.Kind == transfer.StepBegun {
		v.mu.Lock()
		t.begun, t.ended = true, false
		v.mu.Unlock()
		if !v.o.json && e.Try <= 1 && t.outlook != nil && e.Step <= len(t.outlook.Steps) {
			v.say("%s: %s", destination, stepLine(t.outlook, t.outlook.Steps[e.Step-1]))
		}
	}
	if e.Kind == transfer.Progress && v.o.noProgress && !v.o.json {
		return
	}
	t.progress.event(e)
}

// ended tells that the transfers to a destination are over.
func (v *backupView) ended(destination string, r *job.SyncReport, err error) {
	t := v.at(destination)
	v.mu.Lock()
	t.ended = true
	idle := true
	for _, other := range v.order {
		idle = idle && (other.ended || !other.begun)
	}
	v.mu.Unlock()
	if idle && v.bars != nil {
		v.bars.close() // nothing is on its way; should something be later, it is drawn anew
		v.mu.Lock()
		v.draw()
		for _, other := range v.order {
			other.progress.bars = v.bars
		}
		v.mu.Unlock()
	}
	if v.o.json {
		record := endedRecord{Event: "ended", Destination: v.named(destination), OK: err == nil, Error: errorText(err)}
		if r != nil {
			record.Transferred, record.Kept, record.Bytes, record.Skipped = r.Transferred, r.Kept, r.Bytes, r.Skipped
		}
		v.out.put(record)
		return
	}
	switch {
	case err != nil:
		// What each of them is comes in the end, with what to do.
		v.env.Log.Warn(fmt.Sprintf("%s: not complete: %s", destination, err))
	case r != nil && !v.o.dryRun:
		v.say("%s: complete: %d transferred (%s), %d kept%s", destination, r.Transferred, meter.Bytes(r.Bytes), r.Kept, meter.Skipped(r.Skipped))
	}
}

// judged shows what becomes of the snapshots of a place.
func (v *backupView) judged(place string, all []job.Verdict) {
	where := v.where(place)
	if v.o.json {
		for _, j := range all {
			v.out.put(recordOfVerdict(v.named(where), j))
		}
	}
	aside := 0
	for _, j := range all {
		switch {
		case j.Aside:
			v.env.Log.Debug("Set aside", "place", where, "snapshot", j.Snapshot.Path, "because", j.Reason)
			if j.Time.IsZero() || v.o.json {
				break // it has the name of something else
			}
			if aside++; aside <= asideLines {
				v.say("%s: %s is left alone: %s", where, j.Snapshot.Path, j.Reason)
			}
		case !j.Keep:
			v.going[where+"\x00"+j.Snapshot.Path] = j.Reason
			if v.o.dryRun && !v.o.json {
				v.say("WOULD: %s: %s %s (%s)", where, v.removes(where), j.Snapshot.Path, j.Reason)
			}
		case j.Due && !v.o.json:
			v.say("%s: %s stays: %s", where, j.Snapshot.Path, j.Reason)
		}
	}
	if more := aside - asideLines; more > 0 {
		v.say("%s: so are %d more", where, more)
	}
}

// asideLines is how many snapshots that are left alone are named.
const asideLines = 3

// removes is what is done to a snapshot that is not due any more.
func (v *backupView) removes(where string) string {
	return map[bool]string{true: "Trash", false: "Remove"}[v.archives[where]]
}

func (v *backupView) removed(place string, s snapshot.Snapshot, err error) {
	where := v.where(place)
	switch {
	case v.o.json:
		v.out.put(backupRemovedRecord{Event: "removed", Place: v.named(where), ID: s.ID, Path: validText(s.Path), Error: errorText(err)})
	case err == nil:
		reason := ""
		if why := v.going[where+"\x00"+s.Path]; why != "" {
			reason = " (" + why + ")"
		}
		v.say("%s: %s %s%s", where, v.removes(where), s.Path, reason)
	}
}

// result ends what was shown.
func (v *backupView) result(r *job.BackupReport, err error) {
	record := backupResultRecord{
		Event: "result", OK: err == nil, Exit: judge(err).code, DryRun: v.o.dryRun,
		Destinations: []targetResultRecord{}, Error: errorText(err),
	}
	if r != nil {
		if r.Taken != nil {
			record.Taken = validText(r.Taken.Path)
		}
		if r.Source != nil {
			record.Removed = len(r.Source.Removed)
		}
		for _, d := range r.Destinations {
			one := targetResultRecord{Destination: v.named(d.Name), OK: d.Err == nil, Error: errorText(d.Err)}
			if d.Sync != nil {
				one.Transferred, one.Kept, one.Bytes = d.Sync.Transferred, d.Sync.Kept, d.Sync.Bytes
			}
			if d.Prune != nil {
				one.Removed = len(d.Prune.Removed)
			}
			record.Transferred += one.Transferred
			record.Bytes += one.Bytes
			record.Destinations = append(record.Destinations, one)
		}
	}
	if v.o.json {
		v.out.put(record)
		return
	}
	if err != nil || v.o.dryRun || r == nil {
		return
	}
	var parts []string
	switch {
	case record.Taken != "":
		parts = append(parts, record.Taken+" made")
	case !v.unattended:
		parts = append(parts, "no snapshot made")
	}
	switch n := len(record.Destinations); {
	case n == 0:
	case v.o.noTransfer: // whether they are complete nobody has looked at
		parts = append(parts, "nothing sent (-T)")
	default:
		parts = append(parts, plural(n, "destination", "destinations")+" complete")
	}
	removed := record.Removed
	for _, d := range record.Destinations {
		removed += d.Removed
	}
	parts = append(parts, fmt.Sprintf("%d removed", removed))
	if v.unattended {
		v.say("%s: %s", place.Redact(v.source.Arg), strings.Join(parts, ", "))
		return
	}
	v.say("Done: %s", strings.Join(parts, ", "))
}
