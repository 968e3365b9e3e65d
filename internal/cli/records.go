package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/transfer"
)

// records writes JSON objects, one a line. It keeps the first error.
type records struct {
	w    io.Writer
	err  error
	what []byte // fields that come first in each of them
}

func newRecords(w io.Writer) *records { return &records{w: w} }

func (r *records) put(v any) {
	if r.err != nil {
		return
	}
	switch e := v.(type) {
	case transfer.Event:
		v = valid(e)
	case destinationEvent:
		v = destinationEvent{valid(e.Event), validText(e.Destination)}
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if r.err = enc.Encode(v); r.err != nil {
		return
	}
	if text, ok := bytes.CutPrefix(line.Bytes(), []byte("{")); ok && len(r.what) > 0 {
		_, r.err = r.w.Write(slices.Concat([]byte("{"), r.what, []byte(","), text))
		return
	}
	_, r.err = r.w.Write(line.Bytes())
}

// about returns records of which each says what it is about: names of fields with
// their values.
func (r *records) about(fields ...string) *records {
	var all []string
	for i := 0; i+1 < len(fields); i += 2 {
		key, _ := json.Marshal(fields[i]) // no text fails
		value, _ := json.Marshal(fields[i+1])
		all = append(all, string(key)+":"+string(value))
	}
	return &records{w: r.w, what: []byte(strings.Join(all, ","))}
}

// valid is an event that JSON can hold.
func valid(e transfer.Event) transfer.Event {
	e.Path, e.File, e.Error, e.Reason = validText(e.Path), validText(e.File), place.Redact(validText(e.Error)), validText(e.Reason)
	return e
}

// destinationEvent is an event of one of several destinations.
type destinationEvent struct {
	transfer.Event
	Destination string `json:"destination"`
}

// validText is s, or what printable makes of it if JSON could not hold it.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return printable(s)
}

// The records of --json, beside transfer.Event. Each has the field "event".
type (
	// snapshotRecord is one snapshot of a listing.
	snapshotRecord struct {
		Event     string      `json:"event"` // "snapshot"
		ID        snapshot.ID `json:"id"`
		Path      string      `json:"path"` // relative to the directory
		At        string      `json:"at"`   // the whole path
		AlsoAt    []string    `json:"also_at,omitempty"`
		UUID      snapshot.ID `json:"uuid"`
		Parent    snapshot.ID `json:"parent,omitzero"`
		Received  bool        `json:"received"`
		Transid   uint64      `json:"transid"`
		Created   time.Time   `json:"created"`
		Doubtful  bool        `json:"doubtful,omitempty"`
		Size      *int64      `json:"size"` // null if it is not known
		SizeExact bool        `json:"size_exact"`
		Exclusive *int64      `json:"exclusive"`
	}
	// partialRecord is something unfinished.
	partialRecord struct {
		Event string `json:"event"` // "partial", "removed", "would-remove", "not-removed"
		Path  string `json:"path"`
		Why   string `json:"why"`
		Error string `json:"error,omitempty"`
	}
	// planRecord is what a sync is going to do.
	planRecord struct {
		Event       string          `json:"event"` // "plan"
		DryRun      bool            `json:"dry_run"`
		Source      string          `json:"source"`
		Destination string          `json:"destination"`
		Steps       []stepRecord    `json:"steps"`
		Keep        []keptRecord    `json:"keep"`
		Problems    []problemRecord `json:"problems"`
		Remove      []keptRecord    `json:"remove"`
		Excluded    int             `json:"excluded"`
		Bytes       *int64          `json:"bytes"` // to be sent, null if a size is not known
		Exact       bool            `json:"exact"`
		Cost        int64           `json:"cost"`    // what the plan reckons with, in bytes
		Bound       int64           `json:"bound"`   // what no plan costs less than
		Guessed     int             `json:"guessed"` // steps whose sizes had to be guessed
		// Thawing are the streams that cannot be read before cold storage has been asked
		// for them, and some time has passed.
		Thawing  []thawingRecord `json:"thawing"`
		Forecast *job.Forecast   `json:"forecast,omitempty"` // of costs
	}
	stepRecord struct {
		Action   plan.Action  `json:"action"`
		To       snapshot.ID  `json:"to"`
		From     snapshot.ID  `json:"from,omitzero"`
		Path     string       `json:"path"`
		Bytes    *int64       `json:"bytes"`
		Exact    bool         `json:"exact"`
		Reason   string       `json:"reason"`
		FromPath string       `json:"from_path,omitzero"`
		Clones   []keptRecord `json:"clones"` // whose data the stream need not carry
		// Intermediate marks a snapshot that others start from, and that nobody
		// asked for.
		Intermediate bool `json:"intermediate"`
		Chain        int  `json:"chain,omitzero"` // streams that an archive then needs for it
	}
	keptRecord struct {
		ID   snapshot.ID `json:"id"`
		Path string      `json:"path"`
	}
	problemRecord struct {
		ID       snapshot.ID `json:"id"`
		Path     string      `json:"path"`
		Why      string      `json:"why"`
		Conflict bool        `json:"conflict"`
	}
	// removedRecord is a snapshot that --delete removed, or could not.
	removedRecord struct {
		Event string      `json:"event"` // "removed"
		ID    snapshot.ID `json:"id"`
		Path  string      `json:"path"`
		Error string      `json:"error,omitempty"`
	}
	// resultRecord is the last record of a sync.
	resultRecord struct {
		Event       string `json:"event"` // "result"
		OK          bool   `json:"ok"`
		Exit        int    `json:"exit"`
		DryRun      bool   `json:"dry_run"`
		Transferred int    `json:"transferred"`
		Kept        int    `json:"kept"`
		Removed     int    `json:"removed"`
		Bytes       int64  `json:"bytes"`
		// Skipped is how much an archive had from interrupted transfers, as it is
		// stored.
		Skipped int64 `json:"skipped,omitzero"`
		// Pending counts the streams in cold storage that were asked for and cannot be
		// read yet; Due is when all of them can be, as a rule.
		Pending int       `json:"pending,omitzero"`
		Due     time.Time `json:"due,omitzero"`
		Error   string    `json:"error,omitempty"`
	}
)

// bytesOf is a size for JSON: null if nothing is known.
func bytesOf(s snapshot.Size) *int64 {
	if !s.Known {
		return nil
	}
	return &s.Bytes
}

// alsoAt returns the whole paths of a snapshot's copies.
func alsoAt(inv *snapshot.Inventory, s snapshot.Snapshot) []string {
	var all []string
	for _, c := range s.Copies {
		all = append(all, validText(inv.Where(c)))
	}
	return all
}

func recordOfSnapshot(inv *snapshot.Inventory, s snapshot.Snapshot) snapshotRecord {
	return snapshotRecord{
		Event: "snapshot", ID: s.ID, Path: validText(s.Path), At: validText(inv.Where(s)), AlsoAt: alsoAt(inv, s), UUID: s.UUID, Parent: s.Parent,
		Received: s.Received, Transid: s.Transid, Created: s.Created, Doubtful: s.Trust != snapshot.Intact,
		Size: bytesOf(s.Size), SizeExact: s.Size.Exact, Exclusive: bytesOf(s.Exclusive),
	}
}

func recordOfStep(s plan.Step) stepRecord {
	r := stepRecord{
		Action: s.Action, To: s.Edge.To, From: s.Edge.From, Path: validText(s.Path), Bytes: bytesOf(s.Size), Exact: s.Size.Exact,
		Reason: validText(s.Reason), FromPath: validText(s.Parent.Path), Clones: []keptRecord{}, Intermediate: s.Intermediate, Chain: s.Chain,
	}
	for _, c := range s.Clones {
		r.Clones = append(r.Clones, keptRecord{ID: c.ID, Path: validText(c.Path)})
	}
	return r
}

func recordOfPlan(o *job.Outlook, dryRun bool) planRecord {
	total := o.Total()
	r := planRecord{
		Event: "plan", DryRun: dryRun, Source: validText(o.Source), Destination: validText(o.Destination), Excluded: o.Excluded,
		Bytes: bytesOf(total), Exact: total.Exact, Cost: o.Cost, Bound: o.Bound, Guessed: o.Guessed,
		// Empty lists, not null, for whoever loops over them.
		Steps: []stepRecord{}, Keep: []keptRecord{}, Problems: []problemRecord{}, Remove: []keptRecord{},
		Thawing: []thawingRecord{}, Forecast: o.Forecast,
	}
	for _, t := range frozenOf(o.Thawings) {
		r.Thawing = append(r.Thawing, recordOfThawing(t, time.Time{}))
	}
	for _, s := range o.Steps {
		r.Steps = append(r.Steps, recordOfStep(s))
	}
	for _, k := range o.Keep {
		r.Keep = append(r.Keep, keptRecord{ID: k.ID, Path: validText(k.Path)})
	}
	for _, p := range o.Problems {
		r.Problems = append(r.Problems, problemRecord{ID: p.Snapshot.ID, Path: validText(p.Path), Why: validText(p.Why), Conflict: p.Conflict})
	}
	for _, s := range o.Remove {
		r.Remove = append(r.Remove, keptRecord{ID: s.ID, Path: validText(s.Path)})
	}
	return r
}
