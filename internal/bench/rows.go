package main

import (
	"fmt"
	"strconv"
)

// rows are all rows, those of one set together.
func (b *bench) rows() []row {
	sync := func(from string) *work {
		w := one(b.program, "-qq", b.source(from), b.destination())
		return &w
	}
	part := func(args ...string) *work {
		w := one(append([]string{b.self, partVerb}, args...)...)
		w.listen = true
		return &w
	}
	send := func(args ...string) []string { return append([]string{"btrfs", "send", "-q"}, args...) }
	receive := []string{"btrfs", "receive", "-q", b.destination()}
	piped := func(args ...string) *work { return &work{pipelines: []pipeline{{send(args...), receive}}} }
	const theirs = "btrfs send | btrfs receive"

	durable := piped(b.source(day(0)))
	durable.pipelines = append(durable.pipelines, pipeline{{"sync", "-f", b.dst.dir}})

	var chain, tests work
	var names []string
	for i := range increments + 1 {
		names = append(names, day(i))
	}
	for i := range increments {
		args := send("-p", b.source(names[i]), b.source(names[i+1]))
		chain.pipelines = append(chain.pipelines, pipeline{args, receive})
		tests.pipelines = append(tests.pipelines, pipeline{args, {"cat"}})
	}
	var turns work
	var bases []string
	for i := range subvolumes {
		old, now := fmt.Sprintf("v%d.0", i), fmt.Sprintf("v%d.1", i)
		bases = append(bases, old)
		turns.pipelines = append(turns.pipelines, pipeline{send("-p", b.source(old), b.source(now)), receive})
	}
	together := turns
	together.sideBySide = true

	rows := []row{
		{name: "sync, small files", against: theirs, target: .72, set: smallSet, ours: sync(day(0)), theirs: piped(b.source(day(0)))},
		{name: "the same, also on disk", against: theirs + "; sync -f", set: smallSet, ours: sync(day(0)), theirs: durable},
		{name: "send alone, small files", against: "btrfs send | cat", target: .50, set: smallSet, ours: part("send", b.source(day(0))), theirs: &work{pipelines: []pipeline{{send(b.source(day(0))), {"cat"}}}}},
		b.receiving(smallSet, .72),
		{name: "sync, large files", against: theirs, target: .80, set: largeSet, ours: sync(day(0)), theirs: piped(b.source(day(0)))},

		{name: "sync, an increment", against: theirs, target: .95, set: chainSet, base: names[:1], ours: sync(names[1]), theirs: &work{pipelines: chain.pipelines[:1]}},
		{name: "sync, twelve increments", against: theirs + " each", target: .95, set: chainSet, base: names[:1], ours: sync(""), theirs: &chain},
		{name: "ranking twelve increments (search)", against: "btrfs send | cat each", target: .12, set: chainSet, ours: part("sizes", "search", "2", b.source("")), theirs: &tests, note: b.errors(chainSet, "2")},
		{name: "measuring twelve increments, protocol 1", against: "btrfs send | cat each", set: chainSet, ours: part("sizes", "exact", "1", b.source("")), theirs: &tests, note: b.errors(chainSet, "1")},
		{name: "measuring twelve increments, protocol 2", against: "btrfs send | cat each", set: chainSet, ours: part("sizes", "exact", "2", b.source("")), theirs: &tests, note: b.errors(chainSet, "2")},

		{name: "sync, ten increments of ten subvolumes", against: theirs + " each", target: .60, set: tenSet, base: bases, ours: sync(""), theirs: &turns},
		{name: "the same, against all at once", against: theirs + " side by side", set: tenSet, base: bases, ours: sync(""), theirs: &together},
	}
	for _, count := range []int{1000, 5000} {
		all := listed(count)
		list := one(b.program, "list", b.source(""))
		known := one(b.program, "list", "-e", b.source(""))
		progs := one("btrfs", "subvolume", "list", "-puqR", b.src.dir)
		r := row{against: "btrfs subvolume list -puqR", slow: count > 1000, set: all, theirs: &progs}
		if count == 5000 {
			r.target = .60
		}
		first, second, estimated := r, r, r
		first.name, first.ours, first.target = fmt.Sprintf("listing %d snapshots for the first time", count), &list, 0
		second.name, second.ours, second.prime = fmt.Sprintf("listing %d snapshots", count), &list, &list
		estimated.name, estimated.ours, estimated.prime = fmt.Sprintf("listing %d snapshots, -e", count), &known, &list
		rows = append(rows, first, second, estimated)
	}
	for _, count := range []int{100, 1000, 5000, 20000} {
		r := row{name: fmt.Sprintf("planning %d snapshots", count), seconds: true, most: 3, ours: part("plan", strconv.Itoa(count))}
		if count == 5000 {
			r.target = 5
		}
		rows = append(rows, r)
	}

	rows = append(rows, b.fanRows()...)
	rows = append(rows, b.archiveRows()...)
	rows = append(rows, b.farRows()...)

	compressed := send("--proto", "2", "--compressed-data", b.source(day(0)))
	mixed := []row{
		{name: "sync, mixed 3 GB", against: theirs, target: .68, set: mixedSet, ours: sync(day(0)), theirs: piped(b.source(day(0)))},
		b.receiving(mixedSet, .55),
		{name: "sync, mixed 3 GB, zstd", against: theirs, target: .56, set: zstdSet, ours: sync(day(0)), theirs: piped(b.source(day(0)))},
		{name: "the same, against compressed data", against: "btrfs send --compressed-data | btrfs receive", set: zstdSet, ours: sync(day(0)), theirs: &work{pipelines: []pipeline{{compressed, receive}}}},
		{name: "measuring a compressed full stream", against: "btrfs send --compressed-data | cat", set: zstdSet, ours: part("sizes", "exact", "2", b.source("")), theirs: &work{pipelines: []pipeline{{compressed, {"cat"}}}}, note: b.errors(zstdSet, "2")},
	}
	for _, r := range mixed {
		r.slow, r.most = true, 3
		rows = append(rows, r)
	}
	return rows
}

// receiving is the row of receiving a set's first snapshot from a file.
func (b *bench) receiving(s *set, target float64) row {
	file := b.stream(s, day(0))
	ours, theirs := one(b.self, partVerb, "receive", file, b.destination()), one("btrfs", "receive", "-q", "-f", file, b.destination())
	return row{
		name: "receive alone, " + s.name + " files", against: "btrfs receive", target: target,
		set: s, stream: day(0), ours: &ours, theirs: &theirs,
	}
}
