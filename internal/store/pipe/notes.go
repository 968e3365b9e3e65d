package pipe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// Names of notes are "given TO FROM PATH", with "None" for no FROM, and "round"
// for the number of the round that counts.
const (
	noteGiven = "given "
	noteRound = "round"
	noParent  = "None"
)

// taken is a stream that the command has been given whole, and has taken.
type taken struct {
	edge snapshot.Edge
	path string

	// Transid is what the stream says of its snapshot.
	Transid uint64    `json:"transid"`
	Bytes   int64     `json:"bytes"`
	When    time.Time `json:"when"`
	// Round tells apart what was given before and after Options.Again: only the
	// last round counts.
	Round int `json:"round,omitempty"`
}

func (g *taken) name() string {
	from := noParent
	if !g.edge.IsFull() {
		from = g.edge.From.String()
	}
	return noteGiven + g.edge.To.String() + " " + from + " " + g.path
}

// parseNote reads a note.
func parseNote(name string, data []byte) (g taken, err error) {
	words := strings.SplitN(strings.TrimPrefix(name, noteGiven), " ", 3)
	if len(words) != 3 {
		return g, fmt.Errorf("reading %s: want two identities and a path", printable(name))
	}
	if g.edge.To, err = snapshot.ParseID(words[0]); err != nil {
		return g, err
	}
	if words[1] != noParent {
		if g.edge.From, err = snapshot.ParseID(words[1]); err != nil {
			return g, err
		}
	}
	g.path = words[2]
	if err := checkPath(g.path); err != nil {
		return g, err
	}
	if err := json.Unmarshal(data, &g); err != nil {
		return g, fmt.Errorf("reading what is noted about %s: %w", printable(g.path), err)
	}
	if g.edge.To.IsZero() || g.edge.To == g.edge.From || g.Bytes < 0 {
		return g, fmt.Errorf("reading what is noted about %s: it makes no sense", printable(g.path))
	}
	return g, nil
}

// load reads what is noted. What cannot be read is a warning of the inventory, if
// there is one. The caller holds the lock.
func (s *Store) load(inv *snapshot.Inventory) error {
	if s.o.Notes == nil || s.renewing() && s.loaded {
		s.loaded = true
		return nil
	}
	notes, err := s.o.Notes.Notes(s.place())
	if err != nil {
		return fmt.Errorf("reading what the command has been given: %w", err)
	}
	var all []taken
	round := 0
	if text, ok := notes[noteRound]; ok {
		round, _ = strconv.Atoi(string(text)) // the notes have it too
	}
	for name, data := range notes {
		if !strings.HasPrefix(name, noteGiven) {
			continue
		}
		g, err := parseNote(name, data)
		if err != nil {
			if inv != nil && !s.renewing() {
				inv.Warnings = append(inv.Warnings, "Ignoring a note about a stream: "+err.Error())
			}
			continue
		}
		all = append(all, g)
		round = max(round, g.Round)
	}
	s.round, s.loaded = round, true
	if s.renewing() {
		s.round++
		return nil
	}
	s.taken = slices.DeleteFunc(all, func(g taken) bool { return g.Round != round })
	s.sort()
	return nil
}

// renewing reports whether a new round is wanted that has not begun.
func (s *Store) renewing() bool { return s.o.Again && !s.renewed }

func (s *Store) sort() {
	slices.SortFunc(s.taken, func(a, b taken) int {
		return strings.Compare(a.path+"\x00"+a.name(), b.path+"\x00"+b.name())
	})
}

// keep notes a stream that the command has taken.
func (s *Store) keep(g taken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.Round = s.round
	s.taken = slices.DeleteFunc(s.taken, func(o taken) bool { return o.name() == g.name() })
	s.taken = append(s.taken, g)
	s.sort()
	if s.o.Notes == nil {
		return
	}
	text, err := json.Marshal(&g)
	if err == nil && s.renewing() {
		err = s.renew()
	}
	if err == nil {
		err = s.o.Notes.Keep(s.place(), g.name(), text)
	}
	if err != nil {
		s.log.Warn("that the command has taken a snapshot cannot be noted: the next run gives it again", "snapshot", printable(g.path), "error", err)
	}
}

// renew begins a round: nothing counts any more that was given before. It does so
// with the first stream that the command has taken, since until then what was
// given before is all that there is.
func (s *Store) renew() error {
	old, err := s.o.Notes.Notes(s.place())
	if err != nil {
		return err
	}
	if err := s.o.Notes.Keep(s.place(), noteRound, []byte(strconv.Itoa(s.round))); err != nil {
		return err
	}
	s.renewed = true
	for name := range old {
		if !strings.HasPrefix(name, noteGiven) {
			continue
		}
		if err := s.o.Notes.Forget(s.place(), name); err != nil {
			s.log.Debug("a note that counts no more cannot be removed", "note", printable(name), "error", err)
		}
	}
	return nil
}
