package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/stream"
)

// partVerb is the word by which this program does a part of buttersink's work
// for itself, to be timed like any other program.
const partVerb = "part"

func part(ctx context.Context, args []string) error {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch {
	case verb == "send" && len(args) == 1:
		return sendPart(ctx, args[0])
	case verb == "receive" && len(args) == 2:
		return receivePart(ctx, args[0], args[1])
	case verb == "sizes" && len(args) == 3:
		return sizesPart(ctx, args[0], args[1], args[2])
	case verb == "put" && len(args) == 2:
		return putPart(ctx, args[0], args[1])
	case verb == "get" && len(args) == 1:
		return getPart(ctx, args[0])
	case verb == "cut" && len(args) == 4:
		return cutPart(ctx, args[0], args[1], args[2], args[3])
	case verb == "fill" && len(args) == 2:
		return fillPart(args[0], args[1])
	case verb == "chart" && len(args) == 1:
		return chartPart(ctx, args[0])
	case verb == "plan" && len(args) == 1:
		count, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return planPart(count)
	}
	return fmt.Errorf("no part of the work: %s", strings.Join(args, " "))
}

// listStore opens a store and lists it.
func listStore(ctx context.Context, dir string, o local.Options) (*local.Store, *snapshot.Inventory, error) {
	st, err := local.Open(dir, o)
	if err != nil {
		return nil, nil, err
	}
	inv, err := st.List(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	return st, inv, nil
}

// sendPart reads the full stream of the snapshot at a path, to nowhere.
func sendPart(ctx context.Context, path string) error {
	st, inv, err := listStore(ctx, filepath.Dir(path), local.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	for _, s := range inv.Snapshots {
		if s.Path == filepath.Base(path) {
			n, err := length(ctx, st, store.Request{Edge: snapshot.Edge{To: s.ID}})
			fmt.Println(n)
			return err
		}
	}
	return fmt.Errorf("%s: %w", path, store.ErrNotFound)
}

// length reads a stream to its end.
func length(ctx context.Context, st store.Source, r store.Request) (int64, error) {
	in, err := st.Open(ctx, r)
	if err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(sink{}, struct{ io.Reader }{in}, make([]byte, 256<<10))
	return n, errors.Join(err, in.Close())
}

// receivePart receives the stream in a file, until it is on the disk.
func receivePart(ctx context.Context, path, dir string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	fs, err := btrfs.Open(dir)
	if err != nil {
		return err
	}
	defer fs.Close()
	r := replay.New(replay.Options{Filesystem: fs, Dir: fs.Dir(), Name: "received"})
	if err := r.Receive(ctx, stream.NewReader(in)); err != nil {
		return errors.Join(err, r.Abandon())
	}
	_, err = r.Commit(ctx)
	return errors.Join(err, r.Abandon())
}

// sizesPart prints the sizes of the streams between the snapshots of a
// directory and the next ones in order, or of the only one there is, a line
// each: as estimated by a search, as measured exactly, or as they really are.
func sizesPart(ctx context.Context, how, protocol, dir string) error {
	version, err := strconv.ParseUint(protocol, 10, 32)
	if err != nil {
		return err
	}
	st, inv, err := listStore(ctx, dir, local.Options{Protocol: uint32(version)})
	if err != nil {
		return err
	}
	defer st.Close()
	snaps := inv.Inside()
	edges := []snapshot.Edge{{To: snaps[0].ID}}
	if len(snaps) > 1 {
		edges = nil
	}
	for i := range snaps[1:] {
		edges = append(edges, snapshot.Edge{To: snaps[i+1].ID, From: snaps[i].ID})
	}
	for _, e := range edges {
		var size snapshot.Size
		var err error
		switch r := (store.Request{Edge: e}); how {
		case "search":
			size, err = st.Estimate(ctx, r)
		case "exact":
			size, err = st.Measure(ctx, r)
		case "real":
			size.Bytes, err = length(ctx, st, r)
		default:
			err = fmt.Errorf("no way to know a size: %s", how)
		}
		if err != nil {
			return err
		}
		fmt.Println(size.Bytes)
	}
	return nil
}

// planPart plans how a destination that has every other one of so many
// snapshots, of a hundred each of a subvolume, comes to hold all of them.
func planPart(count int) error {
	const each = 100
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	id := func(kind, n int) snapshot.ID {
		return snapshot.ID{0: byte(kind), 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
	}
	src := &snapshot.Inventory{Dir: "/a", Lineage: map[snapshot.ID]snapshot.ID{}}
	dst := &snapshot.Inventory{Dir: "/b", Lineage: map[snapshot.ID]snapshot.ID{}}
	var w plan.Wish
	for n := range count {
		// The subvolumes take turns, as they do when all of them are snapshotted
		// every hour.
		live := n % max(1, count/each)
		s := snapshot.Snapshot{
			ID: id(1, n), UUID: id(1, n), Parent: id(2, live), Path: fmt.Sprintf("v%d.%d", live, n),
			Transid: uint64(100 + n), Generation: uint64(100 + n), Pristine: true,
			Created: begun.Add(time.Duration(n) * time.Minute), Handle: uint64(256 + n),
		}
		src.Lineage[s.UUID] = s.Parent
		src.Snapshots = append(src.Snapshots, s)
		w.Want = append(w.Want, s.ID)
		if (n/max(1, count/each))%2 == 0 {
			s.UUID, s.Received, s.Generation = id(3, n), true, uint64(7+n)
			dst.Snapshots = append(dst.Snapshots, s)
		}
	}
	for _, inv := range []*snapshot.Inventory{src, dst} {
		slices.SortFunc(inv.Snapshots, func(a, b snapshot.Snapshot) int { return strings.Compare(a.Path, b.Path) })
	}
	edges := plan.Candidates(src, dst, w)
	sizes := make(map[snapshot.Edge]snapshot.Size, len(edges))
	for i, e := range edges {
		// Neighbours cost less than those far away, and nothing costs the same.
		sizes[e] = snapshot.AboutSize(1<<20 + int64(i*7919%(1<<20)))
		if e.IsFull() {
			sizes[e] = snapshot.AboutSize(1 << 30)
		}
	}
	p := plan.Sync(src, dst, w, func(e snapshot.Edge) snapshot.Size { return sizes[e] })
	fmt.Printf("%d candidates, %d steps\n", len(edges), len(p.Steps))
	if want := count - len(dst.Snapshots); len(p.Steps) != want || len(p.Problems) > 0 {
		return fmt.Errorf("the plan has %d steps, want %d; problems: %v", len(p.Steps), want, p.Problems)
	}
	return nil
}
