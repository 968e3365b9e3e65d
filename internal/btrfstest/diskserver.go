package btrfstest

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// diskProgram is the name under which a test binary is a fault disk.
const diskProgram = "btrfstest-disk"

// ServeDisks makes the program a fault disk if it was started as one, and does
// not return then. The TestMain of every package that uses Faulty calls it
// first.
//
// A fault disk is a process of its own because the kernel waits for it: a test
// that was killed while it waits for its own disk would never end.
func ServeDisks() {
	if os.Args[0] != diskProgram {
		return
	}
	if err := serveDisk(); err != nil {
		fmt.Println(err) // in the place of the next answer
		os.Exit(1)
	}
	os.Exit(0)
}

// serveDisk serves the image that is descriptor 4 over the connection that is
// descriptor 3, and takes one command a line from its input.
func serveDisk() error {
	const connection = 3
	d := &disk{image: os.NewFile(4, "image")}
	d.resumed.L = &d.mu
	d.heal()
	info, err := d.image.Stat()
	if err != nil {
		return err
	}
	d.length = info.Size()
	ended := make(chan error, 4)
	for range cap(ended) {
		go func() { ended <- serveFUSE(connection, d) }()
	}
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			fmt.Println(d.command(lines.Text()))
		}
		// The test is over or dead. What still uses the disk has to come to its
		// end.
		d.mu.Lock()
		d.heal()
		d.mu.Unlock()
	}()
	return <-ended
}

// disk is a disk that can fail. The lock is not held while a request waits.
type disk struct {
	image  *os.File
	length int64

	mu         sync.Mutex
	resumed    sync.Cond
	paused     bool
	off        bool
	delay      time.Duration
	readsLeft  int64 // bytes until reads fail, -1: they do not
	writesLeft int64
	bad        [2]int64         // the range that cannot be read
	cache      map[int64][]byte // pages that are lost when the power is; nil: there is no cache
	counts     map[string]int64 // requests by kind
}

func (d *disk) heal() {
	d.paused, d.off, d.delay = false, false, 0
	d.readsLeft, d.writesLeft = -1, -1
	d.bad = [2]int64{}
	d.resumed.Broadcast()
}

// command carries out one line from the test and returns the answer.
func (d *disk) command(line string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	name, rest, _ := strings.Cut(line, " ")
	var n, m int64
	_, _ = fmt.Sscan(rest, &n, &m)
	switch name {
	case "heal":
		d.heal()
	case "pause":
		d.paused = true
	case "delay":
		d.delay = time.Duration(n)
	case "fail-reads":
		d.readsLeft = n
	case "fail-writes":
		d.writesLeft = n
	case "bad":
		d.bad = [2]int64{n, n + m}
	case "cache":
		d.cache = map[int64][]byte{}
	case "cut":
		if err := d.cut(uint64(n)); err != nil {
			return err.Error()
		}
	case "counts":
		return fmt.Sprintf("ok %d %d", d.counts["read"], d.counts["write"])
	default:
		return "no such command: " + line
	}
	return "ok"
}

// cut loses what is in the cache, but for a part of it: a disk may write in any
// order until it is told to flush.
func (d *disk) cut(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, page := range slices.Sorted(maps.Keys(d.cache)) {
		if rng.IntN(2) == 0 {
			if _, err := d.image.WriteAt(d.cache[page], page*fusePageSize); err != nil {
				return err
			}
		}
	}
	clear(d.cache)
	d.off = true
	d.resumed.Broadcast()
	return nil
}

// begin waits as long as the disk makes a request wait and takes the lock.
func (d *disk) begin(kind string) {
	d.mu.Lock()
	if d.counts == nil {
		d.counts = map[string]int64{}
	}
	d.counts[kind]++
	if delay := d.delay; delay > 0 {
		d.mu.Unlock()
		time.Sleep(delay)
		d.mu.Lock()
	}
	for d.paused {
		d.resumed.Wait()
	}
}

// spend takes n bytes from what is left and reports whether that was enough.
func spend(left *int64, n int) bool {
	if *left < 0 {
		return true
	}
	if *left < int64(n) {
		*left = 0
		return false
	}
	*left -= int64(n)
	return true
}

func (d *disk) size() int64 { return d.length }

func (d *disk) readAt(b []byte, off int64) (int, unix.Errno) {
	d.begin("read")
	defer d.mu.Unlock()
	if b = b[:max(0, min(int64(len(b)), d.length-off))]; len(b) == 0 {
		return 0, 0
	}
	if d.off || !spend(&d.readsLeft, len(b)) || off < d.bad[1] && off+int64(len(b)) > d.bad[0] {
		return 0, unix.EIO
	}
	if _, err := d.image.ReadAt(b, off); err != nil && err != io.EOF {
		return 0, unix.EIO
	}
	d.overlay(b, off)
	return len(b), 0
}

// overlay puts over b what the cache has of it.
func (d *disk) overlay(b []byte, off int64) {
	if len(d.cache) == 0 {
		return
	}
	for done := 0; done < len(b); {
		page, in := (off+int64(done))/fusePageSize, int((off+int64(done))%fusePageSize)
		n := min(len(b)-done, fusePageSize-in)
		if cached, ok := d.cache[page]; ok {
			copy(b[done:done+n], cached[in:])
		}
		done += n
	}
}

func (d *disk) writeAt(b []byte, off int64) unix.Errno {
	d.begin("write")
	defer d.mu.Unlock()
	if d.off || !spend(&d.writesLeft, len(b)) {
		return unix.EIO
	}
	if d.cache == nil {
		if _, err := d.image.WriteAt(b, off); err != nil {
			return unix.EIO
		}
		return 0
	}
	for len(b) > 0 {
		page, in := off/fusePageSize, int(off%fusePageSize)
		n := min(len(b), fusePageSize-in)
		cached, ok := d.cache[page]
		if !ok {
			cached = make([]byte, fusePageSize)
			if n < fusePageSize {
				if _, err := d.image.ReadAt(cached, page*fusePageSize); err != nil && err != io.EOF {
					return unix.EIO
				}
			}
			d.cache[page] = cached
		}
		copy(cached[in:], b[:n])
		b, off = b[n:], off+int64(n)
	}
	return 0
}

func (d *disk) flush() unix.Errno {
	d.begin("flush")
	defer d.mu.Unlock()
	if d.off || d.writesLeft == 0 {
		return unix.EIO
	}
	for page, cached := range d.cache {
		if _, err := d.image.WriteAt(cached, page*fusePageSize); err != nil {
			return unix.EIO
		}
	}
	clear(d.cache)
	return 0
}

func (d *disk) allocate(mode uint32, off, length int64) unix.Errno {
	d.begin("allocate")
	defer d.mu.Unlock()
	if d.off {
		return unix.EIO
	}
	if d.cache != nil {
		return unix.EOPNOTSUPP // a discard that the power cut would have to undo
	}
	err := unix.Fallocate(int(d.image.Fd()), mode, off, length)
	errno, _ := err.(unix.Errno)
	return cmp.Or(errno, 0)
}
