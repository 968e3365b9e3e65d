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
	made   []int // what each was made from; -1 for nothing known
}

// farthest bounds how far relatives are told apart.
const farthest = 8

func newFamilies(inv *snapshot.Inventory) *families {
	f := &families{number: map[snapshot.ID]int{}}
	for child, parent := range inv.Lineage {
		f.join(child, parent)
	}
	for _, s := range inv.Snapshots {
		if s.Parent.IsZero() {
			f.index(s.UUID)
			continue
		}
		f.join(s.UUID, s.Parent)
	}
	return f
}

// of returns the number of the family to which a UUID belongs.
func (f *families) of(id snapshot.ID) int { return f.find(f.index(id)) }

func (f *families) index(id snapshot.ID) int {
	i, ok := f.number[id]
	if !ok {
		i = len(f.leader)
		f.number[id] = i
		f.leader = append(f.leader, i)
		f.made = append(f.made, -1)
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
	c, p = f.find(c), f.find(p)
	f.leader[max(c, p)] = min(c, p)
}

// hops counts the steps from one subvolume up to a common ancestor and down to
// the other; farthest stands for that many and more.
func (f *families) hops(a, b snapshot.ID) int {
	var up [farthest]int
	n := 0
	for x := f.index(a); x >= 0 && n < farthest; x = f.made[x] {
		up[n] = x
		n++
	}
	least := farthest
	down := 0
	for y := f.index(b); y >= 0 && down < least; y = f.made[y] {
		if i := slices.Index(up[:n], y); i >= 0 {
			least = min(least, i+down)
		}
		down++
	}
	return least
}
