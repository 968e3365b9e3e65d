package plan

import (
	"cmp"
	"slices"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// relative is a snapshot and its place among those of its family.
type relative struct {
	snap       snapshot.Snapshot
	at         int // number among the families' subvolumes
	family     int
	place      int // in the family, ordered by the time of the content
	generation uint64
}

// kinship is what is known of who is related to whom on the source.
type kinship struct {
	*families
	all     []relative
	number  map[snapshot.ID]int // index into all
	members map[int][]int       // of a family, by place
}

// newKinship orders the snapshots of the source by family and, within one, by
// the time of their content. Where all of a family came with streams, the
// numbers of the file system that it came from tell more than those of the one
// that holds the copies, which may have arrived in any order. Strangers are
// snapshots that only the destination has, from which streams of the source
// may start.
func newKinship(src *snapshot.Inventory, strangers []snapshot.Snapshot) *kinship {
	k := &kinship{families: newFamilies(src), number: map[snapshot.ID]int{}, members: map[int][]int{}}
	for i, s := range slices.Concat(src.Snapshots, strangers) {
		at := k.index(s.UUID)
		if src.Archive || i >= len(src.Snapshots) {
			at = k.index(s.ID)
		}
		k.number[s.ID] = len(k.all)
		k.all = append(k.all, relative{snap: s, at: at})
	}
	own := map[int]bool{}
	for i := range k.all {
		r := &k.all[i]
		r.family = k.find(r.at)
		k.members[r.family] = append(k.members[r.family], i)
		if !r.snap.Received || r.snap.Transid == 0 {
			own[r.family] = true
		}
	}
	for f, members := range k.members {
		for _, i := range members {
			r := &k.all[i]
			if r.generation = r.snap.Generation; !own[f] {
				r.generation = r.snap.Transid
			}
		}
		slices.SortFunc(members, k.older)
		for place, i := range members {
			k.all[i].place = place
		}
	}
	return k
}

// older orders snapshots of one family by the time of their content.
func (k *kinship) older(a, b int) int {
	x, y := &k.all[a], &k.all[b]
	return cmp.Or(
		cmp.Compare(x.generation, y.generation),
		x.snap.Created.Compare(y.snap.Created),
		cmp.Compare(x.snap.Path, y.snap.Path),
		slices.Compare(x.snap.ID[:], y.snap.ID[:]),
	)
}

// distance counts the generations between two snapshots.
func (k *kinship) distance(a, b int) uint64 {
	x, y := k.all[a].generation, k.all[b].generation
	return max(x, y) - min(x, y)
}

// follows reports whether what is in one snapshot has developed out of what is
// in another: if not, the two have parted, or time runs the other way. What has
// changed since some transaction then says little about the difference.
func (k *kinship) follows(child, parent int) bool {
	c, p := &k.all[child], &k.all[parent]
	if k.born[c.at] == 0 || k.born[p.at] == 0 && k.made[p.at] >= 0 {
		return p.snap.Generation <= c.snap.Generation // the file system does not say more
	}
	at := c.at
	for range farthest {
		from, when := k.made[at], k.born[at]
		if from < 0 {
			return false
		}
		if from == p.at && p.snap.Generation <= when || k.made[p.at] == from && k.born[p.at] <= when && p.snap.Pristine {
			return true
		}
		at = from
	}
	return false
}

// apart counts the steps of "was made from" between two snapshots.
func (k *kinship) apart(a, b int) int { return k.hops(k.all[a].at, k.all[b].at) }

// nearer orders candidates for want, the best guess first.
func (k *kinship) nearer(want int) func(a, b int) int {
	return func(a, b int) int {
		return cmp.Or(
			cmp.Compare(k.apart(want, a), k.apart(want, b)),
			cmp.Compare(k.distance(want, a), k.distance(want, b)),
			k.older(a, b),
		)
	}
}

const (
	// scanned is the size of a family in which everyone is looked at.
	scanned = 48
	// window is how many are looked at to either side in a crowd of siblings, and
	// crowd how many subvolumes on the way from one snapshot to its relatives.
	window = 4
	crowd  = 96
)

// anchorage is how far apart the relatives are from which many may start.
var anchorage = [...]int{16, 64}

// circle finds the nearest relatives among some of the snapshots without
// looking at all of them.
type circle struct {
	k       *kinship
	members map[int][]int // of a family, by place
	// kids has the subvolumes made from one from which a way leads to a member,
	// ordered by place; key is that place, of the first member for those that are
	// none themselves, and who the member.
	kids map[int][]int
	key  map[int]int
	who  map[int]int

	// What follows is room for one search.
	seen          []int // the last search that found one
	turn          int
	found         []int
	look          []visit
	before, after []kin
}

// circle makes one of the snapshots for which in answers true.
func (k *kinship) circle(in func(i int) bool) *circle {
	c := &circle{k: k, members: map[int][]int{}, kids: map[int][]int{}, key: map[int]int{}, who: map[int]int{}, seen: make([]int, len(k.all))}
	for f, members := range k.members {
		for _, i := range members {
			if in(i) {
				c.members[f] = append(c.members[f], i)
			}
		}
		if len(c.members[f]) <= scanned {
			continue
		}
		for _, i := range c.members[f] {
			c.who[k.all[i].at] = i
			c.key[k.all[i].at] = k.all[i].place
		}
		linked := map[int]bool{}
		for _, i := range c.members[f] {
			for at := k.all[i].at; !linked[at]; at = k.made[at] {
				linked[at] = true
				if _, ok := c.key[at]; !ok {
					c.key[at] = k.all[i].place
				}
				if k.made[at] < 0 {
					break
				}
				c.kids[k.made[at]] = append(c.kids[k.made[at]], at)
			}
		}
	}
	for _, kids := range c.kids {
		slices.SortFunc(kids, func(a, b int) int { return cmp.Or(cmp.Compare(c.key[a], c.key[b]), cmp.Compare(a, b)) })
	}
	return c
}

// near returns the nearest relatives of a snapshot in the circle: so many that
// are older, so many that are newer; the best guess first.
func (c *circle) near(want, older, newer int) []int {
	k := c.k
	c.around(want)
	place := k.all[want].place
	less := func(a, b kin) int {
		return cmp.Or(cmp.Compare(a.apart, b.apart), cmp.Compare(a.distance, b.distance), cmp.Compare(k.all[a.who].place, k.all[b.who].place))
	}
	c.before, c.after = c.before[:0], c.after[:0]
	for _, i := range c.found {
		x := kin{who: i, apart: k.apart(want, i), distance: k.distance(want, i)}
		if k.all[i].place < place {
			c.before = insert(c.before, x, older, less)
		} else {
			c.after = insert(c.after, x, newer, less)
		}
	}
	both := append(c.before, c.after...)
	slices.SortFunc(both, less)
	list := make([]int, len(both))
	for n, x := range both {
		list[n] = x.who
	}
	return list
}

// kin is a relative, and how far it is from another.
type kin struct {
	who, apart int
	distance   uint64
}

// insert puts an element into a short sorted list, of which only so many are kept.
func insert(list []kin, x kin, most int, less func(a, b kin) int) []kin {
	at := len(list)
	for at > 0 && less(x, list[at-1]) < 0 {
		at--
	}
	if at == most {
		return list
	}
	list = slices.Insert(list, at, x)
	return list[:min(len(list), most)]
}

// around finds those in the circle that may be the nearest to a snapshot, in
// no order.
func (c *circle) around(want int) {
	k := c.k
	members := c.members[k.all[want].family]
	c.found, c.look = c.found[:0], c.look[:0]
	if len(members) <= scanned {
		for _, i := range members {
			if i != want {
				c.found = append(c.found, i)
			}
		}
		return
	}
	c.turn++
	c.seen[want] = c.turn
	add := func(i int) {
		if c.seen[i] != c.turn {
			c.seen[i] = c.turn
			c.found = append(c.found, i)
		}
	}
	place := k.all[want].place
	byPlace := func(i, p int) int { return cmp.Compare(k.all[i].place, p) }
	for _, i := range beside(members, place, byPlace) {
		add(i)
	}
	// From the snapshot up to what it was made from, and so on, and from each
	// down to what else was made from that.
	look := append(c.look, visit{at: k.all[want].at, from: -1})
	for n := 0; n < len(look) && n < crowd; n++ {
		v := look[n]
		if i, ok := c.who[v.at]; ok {
			add(i)
		}
		if v.hops == farthest {
			continue
		}
		if up := k.made[v.at]; !v.down && up >= 0 {
			look = append(look, visit{at: up, from: v.at, hops: v.hops + 1})
		}
		for _, kid := range beside(c.kids[v.at], place, func(at, p int) int { return cmp.Compare(c.key[at], p) }) {
			if kid != v.from {
				look = append(look, visit{at: kid, from: v.at, hops: v.hops + 1, down: true})
			}
		}
	}
	c.look = look
}

// visit is a place on the way to relatives.
type visit struct {
	at, from, hops int
	down           bool
}

// beside returns the elements of a sorted slice that are nearest to a place.
func beside(sorted []int, place int, compare func(x, place int) int) []int {
	at, _ := slices.BinarySearchFunc(sorted, place, compare)
	return sorted[max(at-window, 0):min(at+window+1, len(sorted))]
}

// anchors returns two relatives farther back, the same for many snapshots that
// stand together, so that several short chains can begin at one place.
func (c *circle) anchors(want int) []int {
	k := c.k
	members := c.members[k.all[want].family]
	at, _ := slices.BinarySearchFunc(members, k.all[want].place, func(i, place int) int { return cmp.Compare(k.all[i].place, place) })
	var found []int
	for _, apart := range anchorage {
		if n := at / apart * apart; n < at {
			found = append(found, members[n])
		}
	}
	return found
}
