package plan

import "github.com/buttersink/buttersink/internal/snapshot"

// families numbers the families of an inventory: two subvolumes are of one
// family when a line of "was made from" joins them.
type families struct {
	number map[snapshot.ID]int // index into leader
	leader []int
}

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

// join makes one family of two. The lower number leads, whichever comes first.
func (f *families) join(a, b snapshot.ID) {
	x, y := f.find(f.index(a)), f.find(f.index(b))
	f.leader[max(x, y)] = min(x, y)
}
