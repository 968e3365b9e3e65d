// Package outstanding reads and writes .outstanding_transfers, btrfs-backup's
// record of transfers that were begun and not finished, in the directory of the
// snapshots they were sent from. It is pure: text in, text out.
//
//	transfers, err := outstanding.Parse(text)
//	transfers.Add("home-20261120-231524", outstanding.Sent, "/mnt/d2/bk")
//	text = transfers.Format()
//
// # What the room knows
//
// The format, byte for byte as btrfs-backup writes it: a JSON object of snapshots,
// in each the lists "locks" and "parent_locks" of the ids of destinations, with an
// indent of four blanks, ASCII alone, and no newline at the end. Bytes of a name
// that are not UTF-8 are told as the halves \udc80 to \udcff, as Python tells
// them.
//
// # What it refuses to know
//
// Which of the snapshots exist, what ids mean, and where the file is. Nor is the
// file a lock against a second run; btrfs-backup calls its entries locks since
// they keep a snapshot from being removed.
//
// # Invariants
//
// What Parse has read and nobody has dropped, Format writes, in the same order:
// names that mean nothing to this run may belong to another one. A new name comes
// before those with a later time at their end. No name, and no id in a list, is
// there twice. Parse of what Format has written is the same.
//
// Memory is a small multiple of the text, of which there is MaxSize at most.
package outstanding

import (
	"maps"
	"slices"
)

// MaxSize is how long a file Parse takes, in bytes.
const MaxSize = 4 << 20

// Kind is what a snapshot has to do with a transfer.
type Kind string

const (
	// Sent: the transfer is of this snapshot ("locks").
	Sent Kind = "locks"
	// Parent: the transfer starts from this snapshot ("parent_locks").
	Parent Kind = "parent_locks"
)

// kinds are in the order in which they are written.
var kinds = []Kind{Sent, Parent}

// Transfers is the content of the file. The zero Transfers has none. It is not
// for several goroutines at once.
type Transfers struct {
	order   []string
	entries map[string]entry
}

// entry says for which destinations a snapshot is locked, in each way.
type entry map[Kind][]string

// Destinations returns the ids for which a snapshot is locked in a way, in order.
func (t *Transfers) Destinations(name string, k Kind) []string {
	return slices.Clone(t.entries[name][k])
}

// All returns every id that any snapshot is locked for as sent, each once, in
// the order of the file (--locked-dests).
func (t *Transfers) All() []string {
	var ids []string
	seen := map[string]bool{}
	for _, name := range t.order {
		for _, id := range t.entries[name][Sent] {
			if !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// Names returns the snapshots that are locked in any way, in the order of the file.
func (t *Transfers) Names() []string { return slices.Clone(t.order) }

// Add locks a snapshot for a destination, and reports whether it was not locked.
func (t *Transfers) Add(name string, k Kind, destination string) bool {
	e, ok := t.entries[name]
	if !ok {
		e = entry{}
		if t.entries == nil {
			t.entries = map[string]entry{}
		}
		t.entries[name] = e
		t.order = slices.Insert(t.order, t.place(name), name)
	}
	if slices.Contains(e[k], destination) {
		return false
	}
	e[k] = append(e[k], destination)
	return true
}

// Drop unlocks a snapshot for a destination, and reports whether it was locked.
func (t *Transfers) Drop(name string, k Kind, destination string) bool {
	e := t.entries[name]
	i := slices.Index(e[k], destination)
	if i < 0 {
		return false
	}
	if e[k] = slices.Delete(e[k], i, i+1); len(e[k]) == 0 {
		delete(e, k)
	}
	if len(e) == 0 {
		delete(t.entries, name)
		t.order = slices.DeleteFunc(t.order, func(n string) bool { return n == name })
	}
	return true
}

// Clone returns a copy that shares nothing.
func (t *Transfers) Clone() *Transfers {
	c := &Transfers{order: slices.Clone(t.order), entries: map[string]entry{}}
	for name, e := range t.entries {
		e = maps.Clone(e)
		for k := range e {
			e[k] = slices.Clone(e[k])
		}
		c.entries[name] = e
	}
	return c
}

// place returns where a new name belongs: before the later ones that the file ends
// with, or at the end.
func (t *Transfers) place(name string) int {
	at, ok := stamp(name)
	if !ok {
		return len(t.order)
	}
	place := len(t.order)
	for i, other := range slices.Backward(t.order) {
		o, ok := stamp(other)
		if ok && o <= at {
			break
		}
		if ok {
			place = i
		}
	}
	return place
}

// stamp returns the time at the end of a name, YYYYMMDD-HHMMSS, in which the order
// of letters is that of times.
func stamp(name string) (string, bool) {
	const form = "00000000-000000"
	if len(name) < len(form) {
		return "", false
	}
	end := name[len(name)-len(form):]
	for i := range len(form) {
		if digit := end[i] >= '0' && end[i] <= '9'; digit != (form[i] == '0') || !digit && end[i] != '-' {
			return "", false
		}
	}
	return end, true
}
