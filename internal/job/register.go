package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// register is the content of a store's store.RetentionNote, as docs/format.md
// has it: what has to stay in the store, and why. What it does not know of a note
// it writes back as it was.
type register struct {
	holds    []noted
	claims   []claim
	waiting  []waiting // of a series the latest last
	families [][]snapshot.ID
	rest     unknown
}

// registerVersion is the only version of the note that is read or written.
const registerVersion = 1

// unknown are the fields of an object for which this program has no use.
type unknown map[string]json.RawMessage

// noted is a Hold as it is written down.
type noted struct {
	Hold
	rest unknown
}

// claim says that the next increment to a destination starts from a snapshot, as
// far as was known when the destination was last seen.
type claim struct {
	destination string      // Destination.ID of the backup
	series      string      // what the snapshot's path has before the date
	id          snapshot.ID // zero if it is not known what the destination has
	path        string      // in the store that has the note
	seen        time.Time
	place       string // store.Located of the destination, if it has one
	rest        unknown
}

// waiting are snapshots that rules have let go, and that have stayed for another
// reason.
type waiting struct {
	series string
	rules  string // schedule.Rules.String
	ids    []snapshot.ID
	rest   unknown
}

// mostRules is of how many rules it is noted what waits of a series: those of the
// backups, and what somebody tries by hand.
const mostRules = 4

// mostEntries is how many holds, claims or series that wait a note has at most: as
// many empty ones as fit into store.MaxNote would take hundreds of times its memory.
const mostEntries = 20_000

// RegisterError says that a store.RetentionNote cannot be used. It has been left
// as it is.
type RegisterError struct {
	Store string
	Why   error
}

func (e *RegisterError) Error() string {
	return fmt.Sprintf("%s: reading %s: %s; nothing is removed as long as that is so", e.Store, store.RetentionNote, e.Why)
}

// Unwrap returns the reason.
func (e *RegisterError) Unwrap() error { return e.Why }

// readRegister reads what a store has noted; nothing, for a store that keeps no
// notes. It fails with *RegisterError if there is a note that it does not
// understand.
func readRegister(ctx context.Context, st store.Store) (*register, error) {
	r, _, err := openRegister(ctx, st)
	return r, err
}

func openRegister(ctx context.Context, st store.Store) (*register, []byte, error) {
	book, ok := st.(store.Notebook)
	if !ok {
		return &register{}, nil, nil
	}
	text, err := book.ReadNote(ctx, store.RetentionNote)
	if err != nil {
		return nil, nil, fmt.Errorf("reading what is held in %s: %w", st, err)
	}
	r, err := parseRegister(text)
	if err != nil {
		return nil, nil, &RegisterError{Store: st.String(), Why: err}
	}
	return r, text, nil
}

// registerTries is how often a change of the note is tried while others change
// it too.
const registerTries = 8

// updateRegister changes what a store has noted, and returns it as it is then.
// The change is made on what is there now, more than once if somebody else is at
// it. Nothing is written if it changes nothing. A store that keeps no notes is
// left alone, and *UnableError says so if there was something to note.
func updateRegister(ctx context.Context, st store.Store, change func(*register)) (*register, error) {
	for try := 1; ; try++ {
		r, was, err := openRegister(ctx, st)
		if err != nil {
			return nil, err
		}
		before, err := r.format()
		if err != nil {
			return nil, err
		}
		change(r)
		text, err := r.format()
		if err != nil {
			return nil, err
		}
		if bytes.Equal(before, text) {
			return r, nil
		}
		book, ok := st.(store.Notebook)
		if !ok {
			return r, &UnableError{Store: st.String(), Verb: "note what is to stay in it"}
		}
		err = book.WriteNote(ctx, store.RetentionNote, text, was)
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, store.ErrNoteChanged) || try == registerTries {
			return nil, fmt.Errorf("noting in %s what is to stay: %w", st, err)
		}
	}
}

// claimOf returns what is known of a destination and a series.
func (r *register) claimOf(destination, series string) (claim, bool) {
	destination, series = legible(destination), legible(series)
	for _, c := range r.claims {
		if c.destination == destination && c.series == series {
			return c, true
		}
	}
	return claim{}, false
}

// setClaim notes a claim in place of that of the same destination and series.
func (r *register) setClaim(c claim) {
	c.destination, c.series, c.path, c.place = legible(c.destination), legible(c.series), legible(c.path), legible(c.place)
	c.seen = c.seen.UTC().Truncate(time.Second)
	for i, old := range r.claims {
		if old.destination == c.destination && old.series == c.series {
			c.rest = old.rest
			r.claims[i] = c
			return
		}
	}
	r.claims = append(r.claims, c)
}

// placeOf returns where a destination was when it was last seen, empty if that is
// not known.
func (r *register) placeOf(destination string) string {
	var last claim
	for _, c := range r.claims {
		if c.destination == legible(destination) && c.place != "" && !c.seen.Before(last.seen) {
			last = c
		}
	}
	return last.place
}

// hold returns why a snapshot is held.
func (r *register) hold(id snapshot.ID) (Hold, bool) {
	for _, h := range r.holds {
		if h.ID == id {
			return h.Hold, true
		}
	}
	return Hold{}, false
}

// setHold holds a snapshot; one that is held already from then on for the new
// reason.
func (r *register) setHold(h Hold) {
	h.Path, h.Why = legible(h.Path), legible(h.Why)
	h.Since = h.Since.UTC().Truncate(time.Second)
	for i, old := range r.holds {
		if old.ID == h.ID {
			r.holds[i].Hold = h
			return
		}
	}
	r.holds = append(r.holds, noted{Hold: h})
}

// release ends a hold, and reports whether there was one.
func (r *register) release(id snapshot.ID) bool {
	n := len(r.holds)
	r.holds = slices.DeleteFunc(r.holds, func(h noted) bool { return h.ID == id })
	return len(r.holds) < n
}

// waited returns the snapshots of a series that the same rules have let go
// before.
func (r *register) waited(series, rules string) map[snapshot.ID]bool {
	all := map[snapshot.ID]bool{}
	for _, w := range r.waiting {
		if w.series == legible(series) && w.rules == legible(rules) {
			for _, id := range w.ids {
				all[id] = true
			}
		}
	}
	return all
}

// setWaiting notes what waits in a series under some rules, in place of what was
// noted for them.
func (r *register) setWaiting(series, rules string, ids []snapshot.ID) {
	w := waiting{series: legible(series), rules: legible(rules), ids: slices.SortedFunc(slices.Values(ids), compareIDs)}
	others := 0
	for i := len(r.waiting) - 1; i >= 0; i-- {
		switch old := r.waiting[i]; {
		case old.series != w.series:
			continue
		case old.rules == w.rules:
			if slices.Equal(old.ids, w.ids) {
				return
			}
			w.rest = old.rest
		case others < mostRules-1:
			others++
			continue
		}
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
	if len(w.ids) > 0 || len(w.rest) > 0 {
		r.waiting = append(r.waiting, w)
	}
}

func compareIDs(a, b snapshot.ID) int { return bytes.Compare(a[:], b[:]) }

// legible is a text as it comes back from JSON: paths may have any bytes.
func legible(s string) string { return string([]rune(s)) }

// field is a known field of an object: its name, and a pointer to its value.
type field struct {
	name  string
	value any
}

func (h *noted) fields() []field {
	return []field{{"id", &h.ID}, {"path", &h.Path}, {"why", &h.Why}, {"since", &h.Since}}
}

func (c *claim) fields() []field {
	return []field{
		{"destination", &c.destination},
		{"series", &c.series},
		{"id", &c.id},
		{"path", &c.path},
		{"seen", &c.seen},
		{"place", &c.place},
	}
}

func (w *waiting) fields() []field {
	return []field{{"series", &w.series}, {"rules", &w.rules}, {"ids", &w.ids}}
}

// take reads the known fields of an object, and returns the others.
func take(raw json.RawMessage, fields []field) (unknown, error) {
	var rest unknown
	if err := json.Unmarshal(raw, &rest); err != nil {
		return nil, err
	}
	if rest == nil {
		return nil, errors.New("null in place of an object")
	}
	return rest, rest.take(fields)
}

// take moves known fields out of an object.
func (rest unknown) take(fields []field) error {
	for _, f := range fields {
		if err := json.Unmarshal(orNull(rest[f.name]), f.value); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		delete(rest, f.name)
	}
	return nil
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

// give returns an object with the known fields and the others.
func give(fields []field, rest unknown) map[string]any {
	object := map[string]any{}
	for name, raw := range rest {
		object[name] = raw
	}
	for _, f := range fields {
		object[f.name] = f.value
	}
	return object
}

// parseRegister reads a note; nothing is an empty one.
func parseRegister(text []byte) (*register, error) {
	r := &register{}
	if len(bytes.TrimSpace(text)) == 0 {
		return r, nil
	}
	if len(text) > store.MaxNote {
		return nil, fmt.Errorf("it is longer than %d bytes", store.MaxNote)
	}
	var version int
	var holds, claims, waits []json.RawMessage
	var err error
	// The version decides whether the rest means what this program thinks.
	if r.rest, err = take(text, []field{{"version", &version}}); err != nil {
		return nil, err
	}
	if version != registerVersion {
		return nil, fmt.Errorf("it is of version %d, and this program knows version %d only: use a newer one", version, registerVersion)
	}
	err = r.rest.take([]field{
		{"holds", &holds},
		{"claims", &claims},
		{"waiting", &waits},
		{"families", &r.families},
	})
	if err != nil {
		return nil, err
	}
	for what, n := range map[string]int{"holds": len(holds), "claims": len(claims), "series that wait": len(waits)} {
		if n > mostEntries {
			return nil, fmt.Errorf("it has %d %s, and %d are allowed", n, what, mostEntries)
		}
	}
	for i, raw := range holds {
		var h noted
		if h.rest, err = take(raw, h.fields()); err == nil && h.ID.IsZero() {
			err = errors.New("it names no snapshot")
		}
		if err != nil {
			return nil, fmt.Errorf("hold %d: %w", i+1, err)
		}
		r.holds = append(r.holds, h)
	}
	for i, raw := range claims {
		var c claim
		if c.rest, err = take(raw, c.fields()); err != nil {
			return nil, fmt.Errorf("claim %d: %w", i+1, err)
		}
		r.claims = append(r.claims, c)
	}
	for i, raw := range waits {
		var w waiting
		if w.rest, err = take(raw, w.fields()); err != nil {
			return nil, fmt.Errorf("what waits, %d: %w", i+1, err)
		}
		r.waiting = append(r.waiting, w)
	}
	return r, nil
}

// format writes the note; nothing, if it says nothing. What is unknown stays as
// it was read.
func (r *register) format() ([]byte, error) {
	if n := max(len(r.holds), len(r.claims), len(r.waiting)); n > mostEntries {
		return nil, fmt.Errorf("writing %s: it would have %d entries of one kind, and %d are allowed", store.RetentionNote, n, mostEntries)
	}
	object := map[string]any{}
	for name, raw := range r.rest {
		object[name] = raw
	}
	if len(r.holds) > 0 {
		var all []any
		for i := range r.holds {
			all = append(all, give(r.holds[i].fields(), r.holds[i].rest))
		}
		object["holds"] = all
	}
	if len(r.claims) > 0 {
		var all []any
		for i := range r.claims {
			all = append(all, give(r.claims[i].fields(), r.claims[i].rest))
		}
		object["claims"] = all
	}
	if len(r.waiting) > 0 {
		var all []any
		for i := range r.waiting {
			all = append(all, give(r.waiting[i].fields(), r.waiting[i].rest))
		}
		object["waiting"] = all
	}
	if len(r.families) > 0 {
		object["families"] = r.families
	}
	if len(object) == 0 {
		return nil, nil
	}
	object["version"] = registerVersion
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(object); err != nil {
		return nil, fmt.Errorf("writing %s: %w", store.RetentionNote, err)
	}
	if text.Len() > store.MaxNote {
		return nil, fmt.Errorf("writing %s: it would be longer than %d bytes", store.RetentionNote, store.MaxNote)
	}
	return []byte(text.String()), nil
}
