package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// farRows are the rows of other machines.
func (b *bench) farRows() []row {
	send := func(args ...string) []string { return append([]string{"btrfs", "send", "-q"}, args...) }
	receive := func(host string) []string { return []string{"ssh", host, "btrfs", "receive", "-q", b.destination()} }
	piped := func(host string, args ...string) *work {
		return &work{pipelines: []pipeline{{send(args...), receive(host)}}}
	}
	push := func(host, from string, args ...string) *work {
		w := one(append(append([]string{b.program, "-qq"}, args...), b.source(from), "ssh://root@"+host+b.destination())...)
		return &w
	}
	each := func(host string, count int) *work {
		w := &work{}
		for i := range count {
			w.pipelines = append(w.pipelines, pipeline{send("-p", b.source(day(i)), b.source(day(i+1))), receive(host)})
		}
		return w
	}
	pull := one(b.program, "-qq", "ssh://root@"+loop+b.source(day(0)), b.destination())
	pulled := &work{pipelines: []pipeline{{{"ssh", loop, "btrfs", "send", "-q", b.source(day(0))}, {"btrfs", "receive", "-q", b.destination()}}}}
	const pipe, zstd = "btrfs send | ssh btrfs receive", "btrfs send | zstd | ssh 'zstd -d | btrfs receive'"
	squeezed := &work{pipelines: []pipeline{{
		send(b.source(day(0))), {"zstd", "-T0", "-q", "-c"}, {"ssh", slow, "zstd -d -q -c | btrfs receive -q " + b.destination()},
	}}}
	base := []string{day(0)}

	durable := piped(loop, b.source(day(0)))
	durable.pipelines = append(durable.pipelines, pipeline{{"sync", "-f", b.dst.dir}})
	plain := push(loop, day(0), "--wire-compression", "never")

	rows := []row{
		{name: "ssh, small files", against: pipe, target: .80, set: smallSet, ours: push(loop, day(0)), theirs: piped(loop, b.source(day(0)))},
		{name: "ssh, large files", against: pipe, target: .80, set: largeSet, ours: push(loop, day(0)), theirs: piped(loop, b.source(day(0)))},
		{name: "ssh, large files, also on disk", against: pipe + "; sync -f", set: largeSet, ours: push(loop, day(0)), theirs: durable},
		{name: "ssh, large files, no compression", against: pipe, set: largeSet, ours: plain, theirs: piped(loop, b.source(day(0)))},
		{name: "ssh, pulling small files", against: "ssh btrfs send | btrfs receive", target: .80, set: smallSet, ours: &pull, theirs: pulled},
		{name: "ssh, twelve increments", against: pipe + " each", target: .80, set: chainSet, base: base, ours: push(loop, ""), theirs: each(loop, increments)},
		{name: "ssh, 50 tiny increments", against: pipe + " each", set: tinySet, base: base, ours: push(loop, ""), theirs: each(loop, days)},
		{name: "slow link, text", against: pipe, target: .60, set: textSet, ours: push(slow, day(0)), theirs: piped(slow, b.source(day(0)))},
		{name: "slow link, text, both compressed", against: zstd, set: textSet, ours: push(slow, day(0)), theirs: squeezed},
		{name: "slow link, an increment", against: pipe, set: chainSet, base: base, ours: push(slow, day(1)), theirs: &work{pipelines: each(slow, 1).pipelines}},
		{name: "slow link, 50 tiny increments", against: pipe + " each", set: tinySet, base: base, ours: push(slow, ""), theirs: each(slow, days)},
	}
	for _, name := range []string{"ssh, small files", "ssh, large files", "ssh, twelve increments", "ssh, 50 tiny increments"} {
		r := rows[slices.IndexFunc(rows, func(r row) bool { return r.name == name })]
		r.name, r.against = name+", btrbk", "btrbk resume"
		if r.set == tinySet {
			r.target = .20
		}
		r.theirs = b.btrbk(&r)
		rows = append(rows, r)
	}
	cut := one(b.self, partVerb, "cut", b.program, loop, b.source(day(0)), b.destination())
	cut.listen = true
	rows = append(rows, row{
		name: "ssh, cut at 90 %: sent again", target: .15, most: 1, set: largeSet, ours: &cut,
		share: func(said []byte) (float64, error) { return strconv.ParseFloat(strings.TrimSpace(string(said)), 64) },
	})
	for i := range rows {
		rows[i].far = true
		if slices.Contains([]*set{tinySet}, rows[i].set) {
			rows[i].most = 3
		}
	}
	return rows
}

// btrbk is the work of sending what the destination lacks with btrbk, and gives
// the row the configuration for it.
func (b *bench) btrbk(r *row) *work {
	file := "btrbk-" + r.set.name + ".conf"
	r.config = [2]string{file, fmt.Sprintf(`timestamp_format short
snapshot_preserve_min all
target_preserve_min all
volume %s
  snapshot_dir %s
  subvolume live
    target send-receive ssh://%s%s
`, b.src.dir, snapsDir, loop, strings.TrimSuffix(b.destination(), "/"))}
	w := one("btrbk", "-q", "-c", b.dir+"/"+file, "resume")
	return &w
}
