package plan

import (
	"cmp"
	"slices"
)

// greedy is the search of ButterSink, level by level: every node offers its
// links to those that it leads to, and each of them takes the offer if it costs
// less than what it has. An offer bears the cost of passing through a node that
// is not wanted, what it replaces does not. Ties go to the first.
//
// Later trees start from here, so that none is dearer.
func (p *problem) greedy() tree {
	f := p.plant(newTree(p.n))
	levels := map[int][]int32{} // nodes that came to a height, some of them no more at it
	outset := map[int][]int32{} // links from start by the height of what they lengthen
	last := 0
	for i := range p.links {
		if l := &p.links[i]; l.from == start {
			outset[int(l.streams)] = append(outset[int(l.streams)], int32(i))
			last = max(last, int(l.streams))
		}
	}
	offer := func(i int32, height int) {
		l := &p.links[i]
		bytes := l.bytes
		if l.from != start {
			bytes = f.bytes[l.from]
		}
		if !p.fits(height, bytes+l.size) {
			return
		}
		if old := f.tree[l.to]; old >= 0 {
			if p.old(f, old, f.streams[l.to]) <= p.old(f, i, height) {
				return
			}
		}
		if l.from != start && f.above(l.to, l.from) {
			return
		}
		f.attach(l.to, i)
		for _, x := range f.under(l.to) {
			levels[f.streams[x]] = append(levels[f.streams[x]], x)
			last = max(last, f.streams[x])
		}
	}
	for h := 0; h <= last; h++ {
		for _, i := range outset[h] {
			offer(i, h+1)
		}
		front := levels[h]
		delete(levels, h)
		front = slices.DeleteFunc(front, func(v int32) bool { return f.streams[v] != h })
		slices.SortFunc(front, func(a, b int32) int {
			if p.must[a] != p.must[b] {
				if p.must[a] {
					return -1
				}
				return 1
			}
			return cmp.Or(cmp.Compare(f.bytes[a], f.bytes[b]), cmp.Compare(a, b))
		})
		front = slices.Compact(front)
		for _, v := range front {
			if f.streams[v] > h {
				continue
			}
			for _, i := range p.out[v] {
				offer(i, h+1)
			}
		}
	}
	return p.prune(f.tree)
}

// old is the cost that ButterSink sees in a link at a height.
func (p *problem) old(f *forest, i int32, height int) float64 {
	l := &p.links[i]
	if l.held {
		return 0
	}
	through, bytes := 0.0, l.bytes
	if l.from != start {
		bytes = f.bytes[l.from]
		if !p.must[l.from] && f.tree[l.from] >= 0 && !p.links[f.tree[l.from]].held {
			through = bytes
		}
	}
	cost := l.size + through + l.size*storing
	if p.risk {
		cost += risk(height, bytes+l.size)
	}
	return cost
}
