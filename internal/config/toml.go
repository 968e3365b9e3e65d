package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// form is what a value is made of.
type form int

const (
	aText form = iota
	aNumber
	aSwitch
	aList
	aTable
	anOther // a fraction, or a date
)

// String is what people call it.
func (f form) String() string {
	return [...]string{"text", "a whole number", "true or false", "a list", "a table", "a date or a fraction"}[f]
}

// value is one in a document. What it is made of has positions as well, which
// package toml does not tell of values that it decodes.
type value struct {
	form form
	span
	text   string // of a text; of others, how they are written
	number int64
	list   []*value
	table  *table
	// repeated is set for a list made of [[headers]].
	repeated bool
}

// entry is a key and its value.
type entry struct {
	key string
	at  span // of the key
	*value
}

// table is what is between braces, or below a [header].
type table struct {
	entries []*entry // in the order of the document
	index   map[string]*entry
	// headed is where its own [header] is; nowhere if it has none, since only tables
	// in it have one.
	headed span
}

func newTable() *table { return &table{index: map[string]*entry{}, headed: nowhere} }

func (t *table) add(key string, at span, v *value) *entry {
	e := &entry{key, at, v}
	t.entries = append(t.entries, e)
	t.index[key] = e
	return e
}

// parse reads the document; https://toml.io/en/v1.0.0 says what it may be. What is
// wrong with it is noted, and then there is no table.
func (d *document) parse() *table {
	before := len(d.found)
	for _, mark := range []struct{ bytes, of string }{{"\xef\xbb\xbf", "UTF-8, with a mark in front"}, {"\xff\xfe", "UTF-16"}, {"\xfe\xff", "UTF-16"}} {
		if bytes.HasPrefix(d.data, []byte(mark.bytes)) {
			d.wrong(span{0, len(mark.bytes)}, "the file is "+mark.of+", as some editors write it, and TOML is UTF-8 without one", "Have the editor save it as UTF-8 without a byte order mark (BOM).")
			return nil
		}
	}
	root := newTable()
	here := root
	var p unstable.Parser
	p.Reset(d.data)
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			here = d.header(root, keys(n.Key()), n.Kind == unstable.ArrayTable)
		case unstable.KeyValue:
			d.pair(here, n)
		}
	}
	if err := p.Error(); err != nil {
		where, message := span{len(d.data), len(d.data)}, err.Error()
		if e, ok := errors.AsType[*unstable.ParserError](err); ok {
			r := p.Range(e.Highlight)
			where = span{int(r.Offset), int(r.Offset + r.Length)}
		}
		d.found, d.told = d.found[:before], map[int]bool{} // twice the same key, say, in what may be meant quite differently
		d.wrong(where, "this is no TOML: "+message, d.quotes(where))
		return nil
	}
	if len(d.found) > before {
		return nil
	}
	// The rest of the rules, above all about which tables may be continued.
	var all map[string]any
	if err := toml.Unmarshal(d.data, &all); err != nil {
		where := span{0, 0}
		if e, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := e.Position()
			start := min(d.lines[min(line, len(d.lines))-1]+column-1, len(d.data))
			where = span{start, start + 1}
		}
		d.wrong(where, "this is no TOML: "+strings.TrimPrefix(err.Error(), "toml: "), "Write each table in one way: below its [header], in braces, or with dots.")
		return nil
	}
	return root
}

// quotes says what most of those have forgotten who write what is no TOML.
func (d *document) quotes(where span) string {
	rest := d.data[min(where.start, len(d.data)):]
	switch r, n := utf8.DecodeRune(rest); {
	case r == utf8.RuneError && n == 1:
		return "Have the editor save the file as UTF-8."
	case strings.ContainsRune("\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb", r):
		return "Quotes are straight here, as in key = \"text\"."
	}
	line := d.data[d.lines[d.position(where.start).Line-1]:]
	text, _, _ := strings.Cut(string(line), "\n")
	key, written, ok := strings.Cut(text, "=")
	written, _, _ = strings.Cut(strings.TrimSpace(written), " ")
	if !ok || written == "" || strings.ContainsAny(written, `"'[]{},#\`) || strings.ContainsAny(key, "\"'#") {
		return "Text is in quotes, a list in brackets: key = \"text\", key = [\"one\", \"two\"]."
	}
	return fmt.Sprintf("Text is in quotes: %s = \"%s\".", strings.TrimSpace(key), cover(written))
}

// part is one of the names that make up a key.
type part struct {
	name string
	span
}

func keys(it unstable.Iterator) []part {
	var all []part
	for it.Next() {
		n := it.Node()
		all = append(all, part{string(n.Data), spanOf(n)})
	}
	return all
}

func spanOf(n *unstable.Node) span {
	return span{int(n.Raw.Offset), int(n.Raw.Offset + n.Raw.Length)}
}

// header finds or makes the table of a [header].
func (d *document) header(root *table, path []part, repeated bool) *table {
	t := d.down(root, path[:len(path)-1])
	last := path[len(path)-1]
	switch e := t.index[last.name]; {
	case e == nil && repeated:
		e = t.add(last.name, last.span, &value{form: aList, span: last.span, repeated: true})
		return d.more(e.value, last.span)
	case e == nil:
		e = t.add(last.name, last.span, &value{form: aTable, span: last.span, table: newTable()})
		e.table.headed = last.span
		return e.table
	case repeated && e.repeated:
		return d.more(e.value, last.span)
	case !repeated && e.form == aTable && e.table.headed == nowhere:
		e.at, e.table.headed = last.span, last.span
		return e.table
	default:
		d.twice(last, e)
		return newTable()
	}
}

// more adds a table to a list of them.
func (d *document) more(list *value, at span) *table {
	t := newTable()
	t.headed = at
	list.list = append(list.list, &value{form: aTable, span: at, table: t})
	return t
}

// down follows a key, and makes tables where there are none.
func (d *document) down(t *table, path []part) *table {
	for _, p := range path {
		switch e := t.index[p.name]; {
		case e == nil:
			t = t.add(p.name, p.span, &value{form: aTable, span: p.span, table: newTable()}).table
		case e.form == aTable:
			t = e.table
		case e.repeated:
			t = e.list[len(e.list)-1].table
		default:
			d.wrong(p.span, fmt.Sprintf("%q is no table: in line %d, it has a value", p.name, d.position(e.at.start).Line), "Remove one of the two.")
			return newTable()
		}
	}
	return t
}

// pair takes a key and a value into a table.
func (d *document) pair(t *table, n *unstable.Node) {
	path := keys(n.Key())
	last := path[len(path)-1]
	t = d.down(t, path[:len(path)-1])
	if e := t.index[last.name]; e != nil {
		d.twice(last, e)
		return
	}
	whole := spanOf(n)
	// Lists and tables have no positions of their own: they are what is left of the
	// pair behind the sign.
	start := last.end
	for start < whole.end && strings.IndexByte(" \t=", d.data[start]) >= 0 {
		start++
	}
	t.add(last.name, last.span, d.value(n.Value(), span{start, whole.end}))
}

func (d *document) twice(p part, first *entry) {
	d.wrong(p.span, fmt.Sprintf("%q is there twice: it is in line %d as well", p.name, d.position(first.at.start).Line), "Remove one of the two.")
}

// value reads one, which is somewhere in a part of the document.
func (d *document) value(n *unstable.Node, within span) *value {
	v := &value{span: within, text: string(n.Data)}
	if n.Raw.Length > 0 && n.Kind != unstable.InlineTable {
		v.span = spanOf(n)
	}
	switch n.Kind {
	case unstable.String:
		v.form = aText
	case unstable.Bool:
		v.form = aSwitch
	case unstable.Integer:
		v.form = aNumber
		v.number, _ = strconv.ParseInt(v.text, 0, 64) // package toml says what is wrong with it
	case unstable.Array:
		v.form = aList
		for it := n.Children(); it.Next(); {
			v.list = append(v.list, d.value(it.Node(), within))
		}
	case unstable.InlineTable:
		v.form, v.table = aTable, newTable()
		v.table.headed = within
		for it := n.Children(); it.Next(); {
			d.pair(v.table, it.Node())
		}
	default:
		v.form = anOther
	}
	return v
}
