package plan

import (
	"cmp"
	"slices"
)

// nominal is the length of a full stream of which nothing is known.
const nominal = 1 << 30

// measure decides with how many bytes every arc is reckoned. Where no size is
// known it guesses, so that the order of the candidates for one snapshot is
// kept:
//
//   - a full stream is as long as the data that the snapshot refers to; where
//     that is not known, as that of a neighbour with the increment from there,
//     which is the most that it can be, so that a family begins with a full stream
//     of which the length is known. At an archive, where many full streams may be
//     needed, the increment back is taken off, which is what it should be. It is
//     never shorter than the longest increment that is known;
//   - an increment grows with the steps of "was made from", and within each with
//     the generations between the two, from what only the snapshot has to the
//     full stream. It is scaled by what is known of the family, and is never
//     shorter than a better guess that turned out longer, or than what is known
//     of the way back.
//
// An estimate is not believed where the snapshot has not developed out of the
// parent: what is younger than the parent says nothing about the difference then.
func (g *graph) measure() {
	full := g.fulls()
	k := g.s.kin
	guess := func(a *arc) float64 {
		r := g.of(a.to)
		f := full[a.to]
		if a.from == 0 {
			return f
		}
		only := 0.0
		if r.snap.Exclusive.Known {
			only = min(f, float64(r.snap.Exclusive.Bytes))
		}
		from := g.nodes[a.from].relative
		members := k.members[r.family]
		span := float64(k.distance(members[0], members[len(members)-1])) + 1
		d := float64(k.distance(g.nodes[a.to].relative, from))
		hops := float64(max(k.apart(g.nodes[a.to].relative, from), 1))
		return only + (f-only)*(hops-1+d/(d+span))/farthest
	}
	type ratio struct{ known, guessed float64 }
	scale := map[int]ratio{}
	for i := range g.arcs {
		a := &g.arcs[i]
		if a.bytes = float64(a.size.Bytes); a.size.Known {
			if a.from != 0 {
				f := scale[g.of(a.to).family]
				f.known += a.bytes
				f.guessed += guess(a)
				scale[g.of(a.to).family] = f
			}
			continue
		}
		a.bytes = guess(a)
	}
	back := map[[2]int]float64{}
	for i := range g.arcs {
		if a := &g.arcs[i]; a.from != 0 && a.size.Known {
			back[[2]int{a.to, a.from}] = a.bytes
		}
	}
	for n := 1; n < len(g.nodes); n++ {
		in := slices.Clone(g.in[n])
		slices.SortStableFunc(in, func(x, y int) int { return cmp.Compare(g.arcs[x].rank, g.arcs[y].rank) })
		factor := 1.0
		if f := scale[g.of(n).family]; f.known > 0 && f.guessed > 0 {
			factor = f.known / f.guessed
		}
		least := 0.0
		for _, i := range in {
			a := &g.arcs[i]
			if !a.size.Known && a.from != 0 {
				a.bytes = max(min(max(a.bytes*factor, back[[2]int{a.from, a.to}]), full[n]), least)
			}
			if a.from != 0 {
				least = max(least, a.bytes)
			}
		}
	}
}

// fulls returns the lengths of the full streams, as far as they are known and
// guessed where not.
func (g *graph) fulls() []float64 {
	full := make([]float64, len(g.nodes))
	known := make([]bool, len(g.nodes)) // by a measurement
	var look []int
	between := map[[2]int]float64{}
	out := make([][]int, len(g.nodes))
	for _, a := range g.arcs {
		if a.from == 0 && a.size.Known {
			full[a.to], known[a.to] = float64(a.size.Bytes), true
			look = append(look, a.to)
		}
		if a.from != 0 && a.size.Known {
			between[[2]int{a.from, a.to}] = float64(a.size.Bytes)
		}
		if a.from != 0 {
			out[a.from], out[a.to] = append(out[a.from], a.to), append(out[a.to], a.from)
		}
	}
	settled := slices.Clone(known)
	for n := 1; n < len(g.nodes); n++ {
		if s := g.of(n).snap.Size; s.Known && !settled[n] {
			full[n], settled[n] = float64(s.Bytes), true
			look = append(look, n)
		}
	}
	spread := func() {
		for ; len(look) > 0; look = look[1:] {
			n := look[0]
			for _, m := range out[n] {
				if settled[m] {
					continue
				}
				there, ok := between[[2]int{n, m}]
				back, both := between[[2]int{m, n}]
				full[m], settled[m] = full[n], true
				if ok {
					full[m] += there
				}
				if ok && both && g.s.dst.Archive {
					full[m] = max(full[m]-back, 0)
				}
				look = append(look, m)
			}
		}
	}
	spread()
	g.unfounded = make([]bool, len(g.nodes))
	for n := 1; n < len(g.nodes); n++ {
		g.unfounded[n] = !settled[n]
	}
	// Families of which no full stream is known: their oldest has the nominal
	// length, or that of the longest increment.
	longest := map[int]float64{}
	for i := range g.arcs {
		if a := &g.arcs[i]; a.from != 0 && a.size.Known {
			f := g.of(a.to).family
			longest[f] = max(longest[f], float64(a.size.Bytes))
		}
	}
	for n := 1; n < len(g.nodes); n++ {
		if !settled[n] {
			oldest := n
			for _, i := range g.s.kin.members[g.of(n).family] {
				if m := g.number[g.s.kin.all[i].snap.ID]; m != 0 && !settled[m] {
					oldest = m
					break
				}
			}
			full[oldest], settled[oldest] = max(nominal, longest[g.of(n).family]), true
			look = append(look, oldest)
			spread()
		}
	}
	for i := range g.arcs {
		if a := &g.arcs[i]; a.from != 0 && a.size.Known && !known[a.to] {
			full[a.to] = max(full[a.to], float64(a.size.Bytes))
		}
	}
	return full
}
