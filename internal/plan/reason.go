package plan

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// amount writes a length for people, and that it is not exact where it is not.
func amount(bytes float64, size snapshot.Size) string {
	if size.Known && size.Exact {
		return words(bytes)
	}
	return "about " + words(bytes)
}

// words writes a number of bytes for people.
func words(bytes float64) string {
	if bytes < 1024 {
		return fmt.Sprintf("%.0f bytes", bytes)
	}
	unit := min(int(math.Log2(bytes)/10), 6)
	return fmt.Sprintf("%.4g %s", bytes/math.Exp2(float64(10*unit)), [...]string{"", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[unit])
}

// name is how people know a node.
func (d *decision) name(n int) string { return d.graph.of(n).snap.Path }

// reason says why a node is reached as it is.
func (d *decision) reason(n int) string {
	g := d.graph
	a := &g.arcs[d.sol.choice[n]]
	other, least := d.alternative(n)
	text := ""
	switch {
	case a.from == 0 && d.w.Full[g.of(n).snap.ID] && g.nodes[n].must:
		text = "full: asked for"
	case a.from == 0 && d.linear && d.whyAnew(n, a) != "":
		text = d.whyAnew(n, a)
	case a.from == 0 && other == nil && d.src.Archive && d.increments(n):
		text = fmt.Sprintf("full: %s; what its other streams start from would have to be sent besides", amount(a.bytes, a.size))
	case a.from == 0 && (other == nil || !d.increments(n)):
		text = d.whyFull(n)
	case a.from == 0:
		text = "full: " + d.against(n, a, other, least)
	case !a.size.Known && d.guessing(n):
		text = fmt.Sprintf("increment from %s, the nearest of its family that the destination has by then", d.name(a.from))
		if d.dst.Archive {
			text = fmt.Sprintf("increment from %s, number %d of its chain; sizes are guessed", d.name(a.from), d.sol.chains[n].streams)
		}
	default:
		text = fmt.Sprintf("increment from %s: %s", d.name(a.from), d.against(n, a, other, least))
	}
	if !g.nodes[n].must {
		text = d.whyBetween(n) + "; " + text
	}
	return text
}

// whyBetween explains why a snapshot that is not wanted is sent.
func (d *decision) whyBetween(n int) string {
	kids := d.kids[n]
	held := slices.IndexFunc(kids, func(kid int) bool { return d.graph.arcs[d.sol.choice[kid]].held })
	switch {
	case held >= 0:
		return fmt.Sprintf("not wanted itself, but the destination holds the stream of %s that starts from it", d.name(kids[held]))
	case len(kids) == 1:
		return fmt.Sprintf("not wanted itself, but %s starts from it", d.name(kids[0]))
	}
	return fmt.Sprintf("not wanted itself, but %d others start from it, %s among them", len(kids), d.name(kids[0]))
}

// increments reports whether a node has a candidate for a parent.
func (d *decision) increments(n int) bool {
	for _, i := range d.graph.in[n] {
		if d.graph.arcs[i].from != 0 {
			return true
		}
	}
	return false
}

// alternative returns the cheapest other way in which a node could be reached
// with everything else as it is, and by how much that would be dearer; nil if
// there is none.
func (d *decision) alternative(n int) (*arc, float64) {
	var best *arc
	least := math.Inf(1)
	for _, i := range d.graph.in[n] {
		if i == d.sol.choice[n] {
			continue
		}
		if dearer, why := d.dearer(n, i); why == "" && (best == nil || dearer < least) {
			best, least = &d.graph.arcs[i], dearer
		}
	}
	return best, least
}

// dearer returns by how much the plan would cost more if a node were reached
// along another arc and all else stayed, or why that cannot be.
func (d *decision) dearer(n, i int) (float64, string) {
	g := d.graph
	a, now := &g.arcs[i], &g.arcs[d.sol.choice[n]]
	if a.from != 0 && !g.nodes[a.from].there {
		if d.sol.choice[a.from] < 0 {
			return 0, "would have to be sent itself, and that is not worth it"
		}
		if d.below(n, a.from) {
			return 0, "starts from it itself, directly or through others"
		}
	}
	if !d.dst.Archive {
		return g.price(a) - g.price(now), ""
	}
	was := d.sol.chains[n]
	will := chain{d.sol.chains[a.from].streams + 1, d.sol.chains[a.from].bytes + a.bytes}
	deeper, more := will.streams-was.streams, will.bytes-was.bytes
	sum := g.price(a) - g.price(now)
	below := []int{n}
	for k := 0; k < len(below); k++ {
		x := below[k]
		below = append(below, d.kids[x]...)
		c := d.sol.chains[x]
		if limit := d.w.MaxChain; limit > 0 && c.streams+deeper > limit {
			return 0, fmt.Sprintf("the chain would be longer than %d streams", limit)
		}
		if limit := d.w.MaxRestore; limit > 0 && c.bytes+more > float64(limit) {
			return 0, fmt.Sprintf("the chain would be longer than %s", words(float64(limit)))
		}
		arc := &g.arcs[d.sol.choice[x]]
		if !arc.held && !d.linear {
			sum -= risk(c.streams, c.bytes)
		}
		if x == n {
			arc = a
		}
		if !arc.held && !d.linear {
			sum += risk(c.streams+deeper, c.bytes+more)
		}
	}
	return sum, ""
}

// against compares what was chosen with the next best.
func (d *decision) against(n int, a, other *arc, dearer float64) string {
	text := amount(a.bytes, a.size)
	if !a.size.Known {
		text += " by a guess"
	}
	if d.dst.Archive {
		text += fmt.Sprintf(", number %d of its chain", d.sol.chains[n].streams)
	}
	if other == nil {
		return text + "; nothing else can serve"
	}
	from := "in full"
	if other.from != 0 {
		from = "from " + d.name(other.from)
	}
	switch {
	case other.bytes >= a.bytes:
		return fmt.Sprintf("%s, against %s %s", text, amount(other.bytes, other.size), from)
	case d.dst.Archive:
		return fmt.Sprintf("%s, against %s %s at the end of a chain of %d", text, amount(other.bytes, other.size), from, d.sol.chains[other.from].streams+1)
	}
	return fmt.Sprintf("%s; %s %s would cost more in all", text, amount(other.bytes, other.size), from)
}

// whyFull explains why nothing of a family can serve as a parent.
func (d *decision) whyFull(n int) string {
	if d.src.Archive {
		return "full: the only stream of it that the source keeps and the destination can use"
	}
	f := d.graph.of(n).family
	if d.full == nil {
		d.full = map[int]string{}
		for _, there := range d.dst.Snapshots {
			here, ok := d.kin.number[there.ID]
			if !ok || d.full[d.kin.all[here].family] != "" {
				continue
			}
			if why := d.why(d.kin.all[here].snap, there); why != "" {
				d.full[d.kin.all[here].family] = fmt.Sprintf("full: %s %s", there.Path, why)
			}
		}
	}
	if why, ok := d.full[f]; ok {
		return why
	}
	return "full: the destination has no snapshot of its family that the source has too"
}

// whyCut explains why nothing leads to a node.
func (d *decision) whyCut(n int) string {
	if d.w.Full[d.graph.of(n).snap.ID] {
		return "it is to be sent in full, and the source keeps no full stream of it"
	}
	if d.before == nil {
		d.before = map[snapshot.ID][]snapshot.ID{}
		for _, e := range d.src.Edges {
			if !e.IsFull() {
				d.before[e.To] = append(d.before[e.To], e.From)
			}
		}
	}
	seen := map[int]bool{n: true}
	look := []int{n}
	for k := 0; k < len(look); k++ {
		for _, from := range d.before[d.graph.of(look[k]).snap.ID] {
			m := d.graph.number[from]
			if m == 0 {
				name := from.String()
				if snap, ok := d.src.Find(from); ok {
					name = snap.Path
				}
				return fmt.Sprintf("the source cannot give it back: that needs the snapshot %s, %s", name, d.whyNot(from))
			}
			if !seen[m] {
				seen[m] = true
				look = append(look, m)
			}
		}
	}
	return "the source has no stream that leads to it"
}

// whyNot explains why a snapshot is not in the graph.
func (d *decision) whyNot(id snapshot.ID) string {
	snap, ok := d.src.Find(id)
	there, held := d.dst.Find(id)
	_, failed := d.w.Known[id]
	switch {
	case !ok && !held:
		return "which neither side has"
	case !ok:
		return "which the source does not have, and which has been changed at the destination"
	case failed:
		return "which could not be transferred"
	case held:
		if why := d.why(snap, there); why != "" {
			return "which " + why
		}
	case d.dst.Occupied[d.place(snap)] != "":
		return fmt.Sprintf("whose place %s is %s", d.place(snap), takenBy(d.dst.Occupied[d.place(snap)]))
	}
	return fmt.Sprintf("which cannot be put at %s", path.Clean(d.place(snap)))
}

func (d *decision) whyLong() string {
	switch streams, bytes := d.w.MaxChain, d.w.MaxRestore; {
	case bytes <= 0:
		return fmt.Sprintf("every chain that leads to it is longer than %d streams", streams)
	case streams <= 0:
		return fmt.Sprintf("every chain that leads to it is longer than %s", words(float64(bytes)))
	default:
		return fmt.Sprintf("every chain that leads to it is longer than %d streams or %s", streams, words(float64(bytes)))
	}
}

// takenBy continues "its place is" with what is there; some stores have places
// where nothing can be.
func takenBy(what string) string {
	if why, ok := strings.CutPrefix(what, snapshot.NoPlace); ok {
		return "one where nothing can be stored: " + why
	}
	return "taken by " + what
}
