package bill

import (
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// position is the row and the column of a key in a document that could be read,
// or of the nearest that it is in. Tables of a list count from zero.
func position(data []byte, at string) (row, column int, ok bool) {
	places := map[string]unstable.Range{}
	counts := map[string]int{}
	p := unstable.Parser{}
	p.Reset(data)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		var parts []string
		var first unstable.Range
		for it := e.Key(); it.Next(); {
			if n := it.Node(); len(parts) == 0 {
				first = n.Raw
			}
			parts = append(parts, string(it.Node().Data))
		}
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			name := strings.Join(parts, ".")
			if e.Kind == unstable.ArrayTable {
				n := counts[name]
				counts[name]++
				table = name + "." + strconv.Itoa(n)
			} else if n, listed := counts[parts[0]]; listed {
				table = strings.Join(append([]string{parts[0], strconv.Itoa(n - 1)}, parts[1:]...), ".")
			} else {
				table = name
			}
			places[table] = first
		case unstable.KeyValue:
			key := strings.Join(parts, ".")
			if table != "" {
				key = table + "." + key
			}
			places[key] = first
		}
	}
	for {
		if r, there := places[at]; there {
			start := p.Shape(r).Start
			return start.Line, start.Column, true
		}
		i := strings.LastIndexByte(at, '.')
		if i < 0 {
			return 0, 0, false
		}
		at = at[:i]
	}
}
