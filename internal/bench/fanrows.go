package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// fanPrefix and fanDay make the name of a snapshot that is one of a backup's.
const (
	fanPrefix = "live."
	fanDay    = fanPrefix + "20260101-000000"
)

// named is a set whose first snapshot has the name that a backup would give it.
func named(s *set) *set {
	return &set{name: s.name + "-backup", make: func(c *scene) error {
		return inTurn(func() error { return s.make(c) }, func() error { return c.snapshot("live", fanDay) })
	}}
}

var fanSmall, fanLarge = named(smallSet), named(largeSet)

// fanRows are the rows of bringing one snapshot to several file systems.
func (b *bench) fanRows() []row {
	var rows []row
	add := func(s *set, places int) {
		to := []string{b.destination()}
		for i := 1; i < places; i++ {
			to = append(to, b.other(i)+"/")
		}
		ours := one(append([]string{
			b.program, "backup", "-q", "-S", "-p", fanPrefix, "-f", strings.TrimSuffix(b.source(""), "/"),
			filepath.Join(b.src.dir, "live"),
		}, to...)...)
		var each work
		for _, dir := range to {
			each.pipelines = append(each.pipelines, pipeline{{"btrfs", "send", "-q", b.source(fanDay)}, {"btrfs", "receive", "-q", dir}})
		}
		tee := one(append([]string{"bash", "-c", teeScript, b.dir, b.source(fanDay)}, to...)...)
		count := map[int]string{2: "two", 3: "three"}[places]
		kind, _, _ := strings.Cut(s.name, "-")
		r := row{name: fmt.Sprintf("backup to %s places, %s files", count, kind), against: "btrfs send | btrfs receive, for each", set: s, places: places, ours: &ours, theirs: &each}
		rows = append(rows, r)
		r.name, r.against, r.theirs = "the same, against one sender: "+r.name, "btrfs send | tee | btrfs receive", &tee
		rows = append(rows, r)
	}
	add(fanSmall, 2)
	add(fanSmall, 3)
	add(fanLarge, 2)
	return rows
}

// teeScript sends a snapshot to several directories at once. Named pipes, and not
// >(…), let it wait for all, and hear of who fails.
const teeScript = `set -o pipefail
snapshot=$1 first=$2
shift 2
pipes=() receivers=()
for to; do
	pipe=$(mktemp -u "$0/pipe.XXXXXX")
	mkfifo "$pipe" || exit
	btrfs receive -q "$to" <"$pipe" & receivers+=($!)
	pipes+=("$pipe")
done
btrfs send -q "$snapshot" | tee "${pipes[@]}" | btrfs receive -q "$first"
bad=$?
for receiver in "${receivers[@]}"; do
	wait "$receiver" || bad=1
done
rm -f "${pipes[@]}"
exit $bad`

// other is the directory at a destination beyond the first, from 1.
func (b *bench) other(i int) string { return filepath.Join(b.dir, fmt.Sprint("dst", i), snapsDir) }

// spread makes the other destinations of a backup, empty, and has the source
// forget that there have been any.
func (b *bench) spread(r row) error {
	for i := 1; i < r.places; i++ {
		if i > len(b.others) {
			b.others = append(b.others, &disk{dir: filepath.Dir(b.other(i)), image: filepath.Join(b.dir, fmt.Sprintf("dst%d.img", i))})
		}
		d := b.others[i-1]
		if err := inTurn(d.format, d.anew, func() error { return os.MkdirAll(b.other(i), 0o755) }); err != nil {
			return err
		}
	}
	if r.places == 0 {
		return nil
	}
	for _, note := range []string{".outstanding_transfers", ".buttersink-retention"} {
		if err := os.Remove(b.source(note)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// leave unmounts the other destinations.
func (b *bench) leave() error {
	var all []error
	for _, d := range b.others {
		all = append(all, d.unmount())
	}
	return errors.Join(all...)
}
