package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// snapsDir is where the snapshots are on every file system.
const snapsDir = "snaps"

// A row compares two works.
type row struct {
	name    string
	against string // what the other is, in words
	slow    bool   // left out of a quick run
	most    int    // runs, if that is fewer than asked for
	target  float64

	set *set
	// base are snapshots that the destination has before each run.
	base []string
	// stream is a snapshot whose full stream, as btrfs send makes it, is in a
	// file (bench.stream) in the page cache.
	stream string
	// prime is done once, and what the program remembers of it is there in every
	// run of ours.
	prime *work

	ours, theirs *work
	// seconds makes target one of seconds of ours; there is no other work then.
	seconds bool
	// bucket has the server run (server.go), with this bucket on it: empty before
	// each run, or with what stock has put there once.
	bucket string
	stock  *work
	// peak is how many bytes of memory ours may take; 0 is peakTarget.
	peak int64
	// far has another machine reached over ssh (far.go), and config is a file of
	// the work's that is written before it: its name below bench.dir and its text.
	far    bool
	config [2]string
	// places are the destinations of a backup, if it is more than one.
	places int
	// note looks at what ours said.
	note func(said []byte) (string, error)
	// share takes the ratio from what ours said, where nothing else is run.
	share func(said []byte) (float64, error)
}

// A bench is what the rows share.
type bench struct {
	ctx      context.Context
	o        options
	dir      string
	program  string // to be timed
	self     string // for parts of it
	src, dst *disk
	others   []*disk // destinations, beyond the first
	made     map[*set]bool
	states   int
	server   *server
	far      *far
	stocked  map[string]bool // buckets
}

func newBench(ctx context.Context, o options, dir string) (*bench, error) {
	program, err := filepath.Abs(o.program)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w (make build makes it)", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &bench{
		ctx: ctx, o: o, dir: dir, program: program, self: self, made: map[*set]bool{}, stocked: map[string]bool{},
		src: &disk{dir: filepath.Join(dir, "src")},
		dst: &disk{dir: filepath.Join(dir, "dst"), image: filepath.Join(dir, "dst.img")},
	}, nil
}

// source is the path of a snapshot at the source; of the directory for "".
func (b *bench) source(name string) string { return filepath.Join(b.src.dir, snapsDir) + "/" + name }

// destination is that of the directory at the destination.
func (b *bench) destination() string { return filepath.Join(b.dst.dir, snapsDir) + "/" }

// stream is the path of the file with a stream.
func (b *bench) stream(s *set, snapshot string) string {
	return filepath.Join(b.dir, s.name+"-"+snapshot+".stream")
}

// measure runs a row.
func (b *bench) measure(r row) (outcome, error) {
	defer b.src.unmount()
	defer b.dst.unmount()
	defer b.leave()
	if r.set != nil {
		if err := b.use(r.set); err != nil {
			return outcome{}, fmt.Errorf("making the data: %w", err)
		}
	}
	if err := b.ready(r); err != nil {
		return outcome{}, fmt.Errorf("making ready: %w", err)
	}
	if err := b.stock(r); err != nil {
		return outcome{}, fmt.Errorf("filling the bucket: %w", err)
	}
	if err := b.reach(r); err != nil {
		return outcome{}, fmt.Errorf("reaching another machine: %w", err)
	}
	kept := ""
	if r.prime != nil {
		kept = b.state()
		if _, err := b.once(r, *r.prime, kept); err != nil {
			return outcome{}, err
		}
	}
	runs := b.o.runs
	if r.most > 0 {
		runs = min(runs, r.most)
	}
	var ours, theirs []cost
	for range runs {
		state := kept
		if state == "" {
			state = b.state()
		}
		c, err := b.once(r, *r.ours, state)
		if err != nil {
			return outcome{}, err
		}
		ours = append(ours, c)
		if r.theirs == nil {
			continue
		}
		if c, err = b.once(r, *r.theirs, ""); err != nil {
			return outcome{}, err
		}
		theirs = append(theirs, c)
	}
	return r.outcome(ours, theirs)
}

// use makes the source the one of a set, making its data if need be.
func (b *bench) use(s *set) error {
	if err := b.src.unmount(); err != nil {
		return err
	}
	b.src.image, b.src.options = filepath.Join(b.dir, s.name+".img"), s.options
	if b.made[s] {
		return nil
	}
	if err := inTurn(b.src.format, b.src.mount); err != nil {
		return err
	}
	scene, err := newScene(b.src.dir)
	if err != nil {
		return err
	}
	defer scene.snaps.Close()
	if err := s.make(scene); err != nil {
		return err
	}
	b.made[s] = true
	scene.snaps.Close()
	return b.src.unmount()
}

// ready makes the stream and the base that a row begins with.
func (b *bench) ready(r row) error {
	if r.stream != "" {
		file := b.stream(r.set, r.stream)
		if _, err := os.Stat(file); err == nil {
			return nil
		}
		return inTurn(b.src.anew, func() error {
			return tool("btrfs", "send", "-q", "-f", file, b.source(r.stream))
		})
	}
	if len(r.base) == 0 {
		return nil
	}
	base := b.base(r)
	if _, err := os.Stat(base); err == nil {
		return nil
	}
	if err := inTurn(b.dst.format, b.mountBoth); err != nil {
		return err
	}
	for _, name := range r.base {
		if _, err := do(b.ctx, one(b.program, "-qq", b.source(name), b.destination()), []string{stateEnv + b.state()}); err != nil {
			return err
		}
	}
	if err := b.dst.unmount(); err != nil {
		return err
	}
	return os.Rename(b.dst.image, base)
}

// mountBoth mounts both file systems, with the directory of snapshots on each.
func (b *bench) mountBoth() error {
	return inTurn(b.src.anew, b.dst.anew, func() error { return os.MkdirAll(b.destination(), 0o755) })
}

// inTurn does one thing after another, until one fails.
func inTurn(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) base(r row) string { return filepath.Join(b.dir, r.set.name+"-base.img") }

// stateEnv tells the program where its ledger is.
const stateEnv = "BUTTERSINK_STATE="

// state returns a new directory for it.
func (b *bench) state() string {
	b.states++
	return filepath.Join(b.dir, "state"+strconv.Itoa(b.states))
}

// once does a work from the start: nothing cached, a fresh destination, and
// nothing of what was before still on its way to the disk.
func (b *bench) once(r row, w work, state string) (cost, error) {
	if r.set != nil {
		fresh := b.dst.format
		if len(r.base) > 0 {
			fresh = func() error { return b.dst.become(b.base(r)) }
		}
		if err := inTurn(fresh, b.mountBoth, func() error { return b.spread(r) }); err != nil {
			return cost{}, err
		}
	}
	if r.stream != "" {
		if err := warm(b.stream(r.set, r.stream)); err != nil {
			return cost{}, err
		}
	}
	env := []string{stateEnv + state}
	if r.bucket != "" {
		env = append(env, b.server.env...)
		if r.stock == nil {
			if err := b.server.empty(r.bucket); err != nil {
				return cost{}, err
			}
		}
	}
	syscall.Sync()
	c, err := do(b.ctx, w, env)
	return c, errors.Join(err, b.src.unmount(), b.dst.unmount(), b.leave())
}

// peakTarget is what the memory of a row may be at most, if the row says nothing.
const peakTarget = 100 << 20

// outcome is a row's result. Times are medians.
type outcome struct {
	Name    string  `json:"name"`
	Ours    float64 `json:"seconds"`
	Against string  `json:"against,omitempty"`
	Theirs  float64 `json:"against_seconds,omitempty"`
	Ratio   float64 `json:"ratio,omitempty"`
	Target  float64 `json:"target,omitempty"`
	Missed  bool    `json:"missed"` // Target, or peakTarget
	// CPU ratios are without the kernel's own threads.
	CPURatio float64 `json:"cpu_ratio,omitempty"`
	Peak     int64   `json:"peak_bytes"`
	Note     string  `json:"note,omitempty"`
	Runs     int     `json:"runs"`

	seconds bool // Target is in seconds
	late    bool // and missed
	large   bool // Peak is too much
}

func (r row) outcome(ours, theirs []cost) (outcome, error) {
	wall := func(c cost) float64 { return c.wall.Seconds() }
	cpu := func(c cost) float64 { return c.cpu.Seconds() }
	o := outcome{
		Name: r.name, Ours: median(ours, wall), Against: r.against, Target: r.target,
		Runs: len(ours), seconds: r.seconds,
	}
	for _, c := range ours {
		o.Peak = max(o.Peak, c.peak)
	}
	if len(theirs) > 0 {
		o.Theirs = median(theirs, wall)
		o.Ratio, o.CPURatio = o.Ours/o.Theirs, median(ours, cpu)/median(theirs, cpu)
	}
	if r.share != nil {
		var err error
		if o.Ratio, err = r.share(ours[len(ours)-1].said); err != nil {
			return o, err
		}
	}
	if r.target > 0 {
		o.late = o.Ratio > r.target || r.seconds && o.Ours > r.target
	}
	o.large = o.Peak > cmp.Or(r.peak, peakTarget)
	o.Missed = o.late || o.large
	var err error
	if r.note != nil {
		o.Note, err = r.note(ours[len(ours)-1].said)
	}
	return o, err
}

func median(costs []cost, of func(cost) float64) float64 {
	values := make([]float64, len(costs))
	for i, c := range costs {
		values[i] = of(c)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// seconds writes a time in a unit that suits it.
func seconds(s float64) string {
	if s < 0.1995 {
		return fmt.Sprintf("%.1f ms", s*1000)
	}
	return time.Duration(s * float64(time.Second)).Round(10 * time.Millisecond).String()
}
