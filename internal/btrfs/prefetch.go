package btrfs

import (
	"math"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// prefetchWindow bounds the bytes that are ahead of the stream.
	prefetchWindow = 64 << 20
	// prefetchFiles bounds their number, which is what memory is needed for.
	prefetchFiles = 16 << 10
	// Files up to prefetchMin are as good as always within the metadata. Those
	// above prefetchMax the kernel reads ahead well enough by itself; and it
	// drops them behind itself, but only if it is the first to touch them.
	prefetchMin = 2 << 10
	prefetchMax = 4 << 20
)

// prefetch reads small files into the page cache before a full send comes to
// them. The kernel sends one file after the other and waits for the disk each
// time; with the files ready it does not wait.
//
// Whatever goes wrong here makes the send slower, and nothing else.
type prefetch struct {
	subvol   *os.File
	passed   atomic.Uint64 // the stream is done with inodes below this one
	news     chan struct{} // passed has changed
	quit     chan struct{}
	stopping atomic.Bool
	finished chan struct{}

	queue []prefetched // what is ahead of the stream, in the order of inodes
	bytes uint64       // in queue
}

// prefetched is a file in the queue.
type prefetched struct {
	ino, generation uint64
	size            uint64
	drop            bool // nothing of it was in the page cache before
}

// startPrefetch begins to read ahead in subvol. It returns nil if that is not
// to be had.
func startPrefetch(subvol *os.File) *prefetch {
	info, err := Info(subvol)
	if err != nil {
		return nil
	}
	own, err := duplicate(subvol)
	if err != nil {
		return nil
	}
	p := &prefetch{
		subvol:   own,
		news:     make(chan struct{}, 1),
		quit:     make(chan struct{}),
		finished: make(chan struct{}),
	}
	go func() {
		defer close(p.finished)
		defer own.Close()
		p.walk(info.ID)
	}()
	return p
}

// pass says that the stream has come to inode ino.
func (p *prefetch) pass(ino uint64) {
	if p.passed.Load() == ino {
		return
	}
	p.passed.Store(ino)
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// finish says that the stream has come to its end.
func (p *prefetch) finish() { p.pass(math.MaxUint64) }

// halt ends reading ahead, soon: finished is closed then. What the stream has
// not come to stays in the page cache.
func (p *prefetch) halt() {
	if p.stopping.CompareAndSwap(false, true) {
		close(p.quit)
	}
}

// walk goes through all inodes in the order in which the kernel sends them.
func (p *prefetch) walk(subvol uint64) {
	defer p.dropPassed(subvol)
	for it, err := range search(p.subvol, wholeSubvolume(0)) {
		if err != nil || p.stopping.Load() {
			return
		}
		if it.kind != inodeItemType || it.object <= p.passed.Load() {
			continue
		}
		inode, err := inodeItem(it.data)
		if err != nil || inode.mode&unix.S_IFMT != unix.S_IFREG || inode.size <= prefetchMin || inode.size > prefetchMax {
			continue
		}
		if !p.makeRoom(subvol, inode.size) {
			return
		}
		f := prefetched{ino: it.object, generation: inode.generation, size: inode.size}
		if p.read(subvol, &f) {
			p.queue = append(p.queue, f)
			p.bytes += f.size
		}
	}
	for len(p.queue) > 0 && p.wait() {
		p.dropPassed(subvol)
	}
}

// makeRoom waits until size more bytes fit into the window, and reports whether
// to go on.
func (p *prefetch) makeRoom(subvol, size uint64) bool {
	p.dropPassed(subvol)
	for p.bytes+size > prefetchWindow || len(p.queue) >= prefetchFiles {
		if !p.wait() {
			return false
		}
		p.dropPassed(subvol)
	}
	return p.passed.Load() != math.MaxUint64
}

// wait returns when the stream has moved, and reports whether to go on.
func (p *prefetch) wait() bool {
	select {
	case <-p.quit:
		return false
	case <-p.news:
		return true
	}
}

// read has the kernel read one file. It reports whether there is anything to
// keep in mind about it.
func (p *prefetch) read(subvol uint64, f *prefetched) bool {
	fd, err := p.open(subvol, f)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	pages, ok := cachedPages(fd, f.size)
	if ok && pages == (f.size+pageSize-1)/pageSize {
		return false
	}
	f.drop = ok && pages == 0
	return unix.Fadvise(fd, 0, int64(f.size), unix.FADV_WILLNEED) == nil
}

// dropPassed takes out of the queue what the stream is done with, and out of
// the page cache what would not be there without us: the kernel leaves alone
// what it finds there. To let a file go while it is still needed would only
// cost time.
func (p *prefetch) dropPassed(subvol uint64) {
	passed := p.passed.Load()
	n := 0
	for ; n < len(p.queue) && p.queue[n].ino < passed; n++ {
		f := &p.queue[n]
		p.bytes -= f.size
		if !f.drop {
			continue
		}
		if fd, err := p.open(subvol, f); err == nil {
			_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
			unix.Close(fd)
		}
	}
	p.queue = p.queue[n:]
}

// open opens a file by its number. Files are opened once to read and once to
// drop, so that no number of descriptors is held in between.
func (p *prefetch) open(subvol uint64, f *prefetched) (int, error) {
	fd := -1
	err := control(p.subvol, func(mount int) (err error) {
		fd, err = openByHandle(mount, f.ino, subvol, f.generation, unix.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK)
		return err
	})
	return fd, err
}

var pageSize = uint64(os.Getpagesize())

// cachedPages returns how many pages of a file are in the page cache, and false
// if the kernel does not tell.
func cachedPages(fd int, size uint64) (uint64, bool) {
	var stat unix.Cachestat_t
	// cachestat(2), Linux 6.5.
	if err := unix.Cachestat(uint(fd), &unix.CachestatRange{Len: size}, &stat, 0); err == nil {
		return stat.Cache, true
	}
	return residentPages(fd, size)
}

// residentPages is cachedPages for older kernels, by mincore(2).
func residentPages(fd int, size uint64) (uint64, bool) {
	if size == 0 {
		return 0, true
	}
	mapping, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, false
	}
	defer func() { _ = unix.Munmap(mapping) }()
	pages := make([]byte, (size+pageSize-1)/pageSize)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE,
		uintptr(unsafe.Pointer(unsafe.SliceData(mapping))), uintptr(size), uintptr(unsafe.Pointer(unsafe.SliceData(pages))))
	if errno != 0 {
		return 0, false
	}
	n := uint64(0)
	for _, p := range pages {
		n += uint64(p & 1)
	}
	return n, true
}
