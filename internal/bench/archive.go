package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/dir"
	"github.com/buttersink/buttersink/internal/archive/s3"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// What memory may be: by default, and with parts of 5 MiB.
const (
	archivePeak = 400 << 20
	smallPeak   = 64 << 20
)

// A key pair of age, for data that nobody has to hide.
const (
	ageSecret = "AGE-SECRET-KEY-1GL2QMF942DAG7K2PDQZL5L2M4MCRQ6K04LRGTNY58C7KULEJWEXQVA62LD"
	agePublic = "age1kufsg64k4rajafa0uys8gud48mperg72vmmgsejuw8ep8yzkvsmqtlmn0g"
)

// archiveRows are the rows of archives.
func (b *bench) archiveRows() []row {
	rclone, err := filepath.Abs(b.o.rclone)
	if err != nil {
		rclone = b.o.rclone
	}
	identity := filepath.Join(b.dir, "age.key")
	_ = os.WriteFile(identity, []byte(ageSecret+"\n"), 0o600) // what needs it says if it is not there
	program := func(args ...string) *work {
		w := one(append([]string{b.program, "-qq"}, args...)...)
		return &w
	}
	part := func(args ...string) *work {
		w := one(append([]string{b.self, partVerb}, args...)...)
		return &w
	}
	pipe := func(commands ...[]string) *work { return &work{pipelines: []pipeline{commands}} }
	send := []string{"btrfs", "send", "-q", b.source(day(0))}
	receive := []string{"btrfs", "receive", "-q", b.destination()}
	rcat := []string{rclone, "rcat", remote + "bench-up/theirs"}
	cat := func(bucket string) []string {
		return []string{rclone, "cat", remote + bucket, "--filter", "- *.json", "--filter", "+ *_None*", "--filter", "- *"}
	}
	sealing := []string{"--compress", "zstd", "--encrypt", "age:" + agePublic}
	up := func(to string, args ...string) *work {
		return program(append(args, b.source(day(0)), "s3://"+to+"/ours/")...)
	}
	down := func(from string, args ...string) *work {
		return program(append(args, "s3://"+from+"/ours/", b.destination())...)
	}
	zstdAge := [][]string{{"zstd", "-T0", "-q", "-c"}, {"age", "-r", agePublic}}
	undone := [][]string{{"age", "-d", "-i", identity}, {"zstd", "-d", "-q", "-c"}}
	file := b.stream(largeSet, day(0))
	const toS3, fromS3 = "btrfs send | rclone rcat", "rclone cat | btrfs receive; sync -f"
	received := func(commands ...[]string) *work { // and on the disk
		w := pipe(append(commands, receive)...)
		w.pipelines = append(w.pipelines, pipeline{{"sync", "-f", b.dst.dir}})
		return w
	}

	uploads := []row{
		{name: "upload, large files", against: toS3, target: .70, set: largeSet, ours: up("bench-up"), theirs: pipe(send, rcat)},
		{name: "upload, small files", against: toS3, target: .70, set: smallSet, ours: up("bench-up"), theirs: pipe(send, rcat)},
		{name: "upload, parts of 5 MiB", against: toS3, set: largeSet, peak: smallPeak, ours: up("bench-up", "--part-size", "5"), theirs: pipe(send, rcat)},
		{
			name: "upload, small files, zstd and age", against: "btrfs send | zstd -T0 | age | rclone rcat", target: .70, set: smallSet,
			ours: up("bench-up", sealing...), theirs: pipe(send, zstdAge[0], zstdAge[1], rcat),
		},
		{
			name: "upload, large files, zstd and age", against: "btrfs send | zstd -T0 | age | rclone rcat", target: .70, set: largeSet,
			ours: up("bench-up", sealing...), theirs: pipe(send, zstdAge[0], zstdAge[1], rcat),
		},
		{
			name: "upload of a stream", against: "rclone rcat", target: .70, set: largeSet, stream: day(0),
			ours: part("put", file, "bench-up"), theirs: pipe([]string{"sh", "-c", `exec "$0" rcat "$1" <"$2"`, rclone, rcat[2], file}),
		},
		{
			name: "the same, 64 MiB a part", against: "rclone rcat --s3-chunk-size 64M", set: largeSet, stream: day(0),
			ours:   part("put", file, "bench-up"),
			theirs: pipe([]string{"sh", "-c", `exec "$0" rcat --s3-chunk-size 64M "$1" <"$2"`, rclone, rcat[2], file}),
		},
	}
	for i := range uploads {
		uploads[i].bucket = "bench-up"
	}
	const plain, sealed = "bench-plain", "bench-sealed"
	downloads := []row{
		{name: "restore, large files", against: fromS3, target: .70, bucket: plain, ours: down(plain), theirs: received(cat(plain))},
		{name: "restore, parts of 5 MiB", against: fromS3, peak: smallPeak, bucket: plain, ours: down(plain, "--part-size", "5"), theirs: received(cat(plain))},
		{
			name: "restore, zstd and age", against: "rclone cat | age -d | zstd -d | btrfs receive; sync -f", target: .70, bucket: sealed,
			ours: down(sealed, "--identity", identity), theirs: received(cat(sealed), undone[0], undone[1]),
		},
		{name: "download of a stream", against: "rclone cat", target: .70, bucket: plain, ours: part("get", plain), theirs: pipe(cat(plain), []string{"cat"})},
		{
			name: "verify --data", against: "downloading it", target: 1, bucket: plain,
			ours: program("verify", "--data", "s3://"+plain+"/ours/"), theirs: part("get", plain),
		},
		{
			name: "verify --data, zstd and age", against: "rclone cat | age -d | zstd -d", target: 1, bucket: sealed,
			ours: program("verify", "--data", "--identity", identity, "s3://"+sealed+"/ours/"), theirs: pipe(cat(sealed), undone[0], undone[1]),
		},
	}
	for i := range downloads {
		r := &downloads[i]
		r.set, r.stock = largeSet, up(plain)
		if r.bucket == sealed {
			r.stock = up(sealed, sealing...)
		}
	}
	rows := slices.Concat(uploads, downloads)
	for i := range rows {
		if rows[i].peak == 0 {
			rows[i].peak = archivePeak
		}
	}
	for _, count := range []int{1000, 10_000, 100_000} {
		at := filepath.Join(b.dir, fmt.Sprintf("objects-%d", count))
		r := row{seconds: true, most: 3, slow: count > 10_000, prime: part("fill", at, strconv.Itoa(count))}
		if count == 100_000 {
			r.target = 5
		}
		list, chart := r, r
		list.name, list.ours = fmt.Sprintf("listing %d objects in a directory", count), program("list", "dir://"+at+"/")
		chart.name, chart.ours = fmt.Sprintf("listing and planning %d objects in a directory", count), part("chart", at)
		rows = append(rows, list, chart)
	}
	return rows
}

// onS3 opens an archive in S3.
func onS3(ctx context.Context, bucket string) (*archive.Store, error) {
	b, err := s3.Open(ctx, s3.Options{Bucket: bucket})
	if err != nil {
		return nil, err
	}
	s, err := archive.Open(ctx, b, archive.Options{Prefix: "ours"})
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return s, nil
}

// putPart stores the stream in a file.
func putPart(ctx context.Context, path, bucket string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	s, err := onS3(ctx, bucket)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.List(ctx); err != nil {
		return err
	}
	r := stream.NewReader(in)
	id, err := r.Identity()
	if err != nil {
		return err
	}
	w, err := s.Create(ctx, store.Want{
		Edge: snapshot.Edge{To: id.UUID, From: id.Parent}, Path: id.Path, Size: snapshot.ExactSize(info.Size()),
	})
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		run, err := r.NextRun()
		if err != nil {
			if r.Stats().Bytes == info.Size() {
				return w.Commit(ctx)
			}
			return err
		}
		if _, err := w.Write(run); err != nil {
			return err
		}
	}
}

// getPart reads all streams of an archive, to nowhere.
func getPart(ctx context.Context, bucket string) error {
	s, err := onS3(ctx, bucket)
	if err != nil {
		return err
	}
	defer s.Close()
	inv, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, e := range inv.Edges {
		if _, err := length(ctx, s, store.Request{Edge: e.Edge}); err != nil {
			return err
		}
	}
	return nil
}

// filled is the snapshot of a number in what fillPart makes: a hundred live
// subvolumes take turns.
const lives = 100

func filled(n int) snapshot.Snapshot {
	return snapshot.Snapshot{
		ID:   snapshot.ID{0xaa, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)},
		Path: fmt.Sprintf("home.%02d/%s", n%lives, time.Unix(int64(n/lives)*3600, 0).UTC().Format("2006-01-02T15:04")),
	}
}

// fillPart makes an archive in a directory with so many objects, each with a
// manifest: of each subvolume a full stream every hundred snapshots, and increments
// between. They hold nothing; how long they are is all that listing sees.
func fillPart(at, text string) error {
	count, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	if _, err := os.Stat(at); err == nil {
		return nil // another row has made it
	}
	for n := range count {
		s := filled(n)
		from := "None"
		if n/lives%100 != 0 {
			from = filled(n - lives).ID.String()
		}
		d := filepath.Join(at, s.Path)
		name := filepath.Join(d, s.ID.String()+"_"+from+".zst")
		err := errors.Join(os.MkdirAll(d, 0o755), os.WriteFile(name, nil, 0o644), os.Truncate(name, int64(1000+n)), os.WriteFile(name+".json", []byte("{}\n"), 0o644))
		if err != nil {
			return err
		}
	}
	return nil
}

// chartPart lists an archive in a directory, and plans what comes next: the next
// snapshot of each subvolume into it, and the latest ones out of it.
func chartPart(ctx context.Context, at string) error {
	b, err := dir.Open(at, dir.Options{})
	if err != nil {
		return err
	}
	s, err := archive.Open(ctx, b, archive.Options{})
	if err != nil {
		return errors.Join(err, b.Close())
	}
	defer s.Close()
	begun := time.Now()
	kept, err := s.List(ctx)
	if err != nil {
		return err
	}
	count := len(kept.Snapshots)
	listed := time.Since(begun)
	live := &snapshot.Inventory{Dir: "/a", Lineage: map[snapshot.ID]snapshot.ID{}}
	var next, latest plan.Wish
	const still = 24 // snapshots of each that the source has
	for n := max(0, count-still*lives); n < count+lives; n++ {
		x := filled(n)
		x.UUID, x.Parent = x.ID, snapshot.ID{0xbb, 15: byte(n % lives)}
		x.Transid, x.Generation, x.Pristine = uint64(n+10), uint64(n+10), true
		x.Created = time.Unix(int64(n/lives)*3600, 0)
		live.Lineage[x.UUID] = x.Parent
		live.Snapshots = append(live.Snapshots, x)
		if n >= count {
			next.Want = append(next.Want, x.ID)
		} else if n >= count-lives {
			latest.Want = append(latest.Want, x.ID)
		}
	}
	slices.SortFunc(live.Snapshots, func(a, b snapshot.Snapshot) int { return strings.Compare(a.Path, b.Path) })
	known := make(map[snapshot.Edge]snapshot.Size, len(kept.Edges))
	for _, e := range kept.Edges {
		known[e.Edge] = e.Size
	}
	in := plan.Sync(live, kept, next, func(e snapshot.Edge) snapshot.Size {
		if e.IsFull() {
			return snapshot.AboutSize(1 << 30)
		}
		return snapshot.AboutSize(1<<20 + int64(e.From[15])<<10)
	})
	out := plan.Sync(kept, &snapshot.Inventory{Dir: "/b"}, latest, func(e snapshot.Edge) snapshot.Size { return known[e] })
	fmt.Printf("%d objects: listed in %v, %d steps in and %d out planned in %v\n",
		count, listed, len(in.Steps), len(out.Steps), time.Since(begun)-listed)
	if len(in.Steps) != lives || len(out.Steps) < lives || len(in.Problems)+len(out.Problems) > 0 {
		return fmt.Errorf("the plans are not what they should be: %v, %v", in.Problems, out.Problems)
	}
	return nil
}
