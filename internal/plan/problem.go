package plan

import (
	"math"
)

// problem is one independent part of a planning, without names: nodes that may
// be reached, links between them, and which nodes have to be.
type problem struct {
	n    int
	must []bool
	// links are in order of their targets; in and out list them by number.
	links []link
	in    [][]int32
	out   [][]int32
	// risk is set where chains cost: at an archive.
	risk bool
	// limit is how many streams a chain may have, and heaviest how many bytes; 0 is
	// no limit.
	limit    int
	heaviest float64
}

// start is where a link comes from that needs no other node of the problem:
// nothing, or what the destination holds.
const start = -1

// link is a way to a node.
type link struct {
	from, to int32 // numbers of nodes; from may be start
	size     float64
	// cost is what the link costs whatever chain it ends: bytes sent and stored.
	cost float64
	// streams and bytes are the chain that a link from start lengthens.
	streams int32
	bytes   float64
	// tie orders links that cost the same: the better guess has the smaller one.
	tie int64
	arc int32 // number in the graph
	// held is set for what the destination keeps already.
	held bool
}

const (
	// storing is the cost of a byte stored, where it would not be stored anyway;
	// a byte sent costs 1.
	storing = 1.0 / 16
	// steepest bounds the doubling of the risk, so that sums stay finite and
	// comparable where long chains cannot be avoided.
	steepest = 40
)

// risk is what it costs that a chain of that many streams and bytes can break.
func risk(streams int, bytes float64) float64 {
	return math.Ldexp(bytes, min(streams-6, steepest))
}

// fits reports whether a chain of so many streams and bytes is allowed.
func (p *problem) fits(streams int, bytes float64) bool {
	return (p.limit <= 0 || streams <= p.limit) && (p.heaviest <= 0 || bytes <= p.heaviest)
}

// price is the cost of a link whose node comes to stand at the end of a chain
// of so many streams and bytes, its own included.
func (p *problem) price(l *link, streams int, bytes float64) float64 {
	if !p.risk || l.held {
		return l.cost
	}
	return l.cost + risk(streams, bytes)
}

// index fills in and out.
func (p *problem) index() {
	p.in = gather[int32](p.n, len(p.links), func(i int) int { return int(p.links[i].to) })
	p.out = gather[int32](p.n, len(p.links), func(i int) int { return int(p.links[i].from) })
}

// gather lists, for every node, the links that belong to it, in order.
func gather[N int | int32](nodes, links int, node func(i int) int) [][]N {
	count := make([]int32, nodes+1)
	for i := range links {
		if v := node(i); v != start {
			count[v+1]++
		}
	}
	for v := range nodes {
		count[v+1] += count[v]
	}
	lists, all := make([][]N, nodes), make([]N, count[nodes])
	for v := range lists {
		lists[v] = all[count[v]:count[v]:count[v+1]]
	}
	for i := range links {
		if v := node(i); v != start {
			lists[v] = append(lists[v], N(i))
		}
	}
	return lists
}

// tree says for every node through which link it is reached; -1 for those that
// are not.
type tree []int32

func newTree(n int) tree {
	t := make(tree, n)
	for i := range t {
		t[i] = -1
	}
	return t
}

// prune takes out what is neither wanted nor on the way to something wanted.
func (p *problem) prune(t tree) tree {
	needed := make([]bool, p.n)
	for v := range t {
		if !p.must[v] {
			continue
		}
		for x := int32(v); x != start && !needed[x] && t[x] >= 0; x = p.links[t[x]].from {
			needed[x] = true
		}
	}
	for v := range t {
		if !needed[v] {
			t[v] = -1
		}
	}
	return t
}

// cost returns what a tree costs, and infinity for one that leaves out a wanted
// node, goes in a circle or has a chain that is too long.
func (p *problem) cost(t tree) float64 {
	if t == nil {
		return math.Inf(1)
	}
	streams, bytes, ok := p.chains(t)
	if !ok {
		return math.Inf(1)
	}
	sum := 0.0
	for v, i := range t {
		if i < 0 {
			if p.must[v] {
				return math.Inf(1)
			}
			continue
		}
		if !p.fits(streams[v], bytes[v]) {
			return math.Inf(1)
		}
		sum += p.price(&p.links[i], streams[v], bytes[v])
	}
	return sum
}

// chains returns how many streams and bytes lead to every node of a tree, and
// false if it is not one.
func (p *problem) chains(t tree) (streams []int, bytes []float64, ok bool) {
	streams, bytes = make([]int, p.n), make([]float64, p.n)
	var path []int32
	for v := range t {
		path = path[:0]
		x := int32(v)
		for t[x] >= 0 && streams[x] == 0 {
			path = append(path, x)
			streams[x] = -1 // on the way
			if x = p.links[t[x]].from; x == start {
				break
			}
			if streams[x] < 0 || t[x] < 0 {
				return nil, nil, false
			}
		}
		for i := len(path) - 1; i >= 0; i-- {
			x := path[i]
			l := &p.links[t[x]]
			s, b := int(l.streams), l.bytes
			if l.from != start {
				s, b = streams[l.from], bytes[l.from]
			}
			streams[x], bytes[x] = s+1, b+l.size
		}
	}
	return streams, bytes, true
}
