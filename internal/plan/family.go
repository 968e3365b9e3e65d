package plan

import (
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// families numbers the families of an inventory: two subvolumes are of one
// family when a line of "was made from" joins them.
type families struct {
	number map[snapshot.ID]int // index into leader and made
	leader []int
	made   []int    // what each was made from; -1 for nothing known
	born   []uint64 // in which transaction; 0 for unknown
}

// farthest bounds how far relatives are told apart.
const farthest = 8

func newFamilies(inv *snapshot.Inventory) *families {
	f := &families{number: map[snapshot.ID]int{}}
	for child, parent := range inv.Lineage {
		f.join(child, parent)
	}
	for _, s := range inv.Snapshots {
		if inv.Archive {
			f.index(s.ID) // it has no subvolumes
			continue
		}
		if s.Parent.IsZero() {
			f.index(s.UUID)
			continue
		}
		f.join(s.UUID, s.Parent)
	}
	for i, at := range inv.Born {
		f.born[f.index(i)] = at
	}
	// An archive knows nobody's parents but those of its streams.
	for _, e := range inv.Edges {
		if !e.IsFull() {
			f.unite(f.index(e.To), f.index(e.From))
		}
	}
	return f
}

func (f *families) index(id snapshot.ID) int {
	i, ok := f.number[id]
	if !ok {
		i = len(f.leader)
		f.number[id] = i
		f.leader = append(f.leader, i)
		f.made = append(f.made, -1)
		f.born = append(f.born, 0)
	}
	return i
}

func (f *families) find(i int) int {
	for f.leader[i] != i {
		f.leader[i] = f.leader[f.leader[i]]
		i = f.leader[i]
	}
	return i
}

// join notes that child was made from parent, and makes one family of theirs.
func (f *families) join(child, parent snapshot.ID) {
	c, p := f.index(child), f.index(parent)
	f.made[c] = p
	f.unite(c, p)
}

func (f *families) unite(a, b int) {
	a, b = f.find(a), f.find(b)
	f.leader[max(a, b)] = min(a, b)
}

// hops counts the steps from one subvolume, by its number, up to a common
// ancestor and down to the other; farthest stands for that many and more.
func (f *families) hops(a, b int) int {
	var up [farthest]int
	n := 0
	for x := a; x >= 0 && n < farthest; x = f.made[x] {
		up[n] = x
		n++
	}
	least := farthest
	down := 0
	for y := b; y >= 0 && down < least; y = f.made[y] {
		if i := slices.Index(up[:n], y); i >= 0 {
			least = min(least, i+down)
		}
		down++
	}
	return least
}
