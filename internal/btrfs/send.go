package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SendOptions say which stream is wanted.
type SendOptions struct {
	// Parent is the number of the subvolume that the receiver has already; 0
	// makes a full stream. The parent is a clone source as well, as it is for
	// `btrfs send -p`.
	Parent uint64
	// CloneSources are numbers of further subvolumes that the receiver has, and
	// whose extents the stream may refer to.
	CloneSources []uint64
	// Protocol is 1 or 2; 0 is 1.
	Protocol uint32
	// Compressed sends compressed extents as they are stored. Protocol 2 only.
	Compressed bool
	// MetadataOnly leaves out the data of files, and says only where it would
	// be.
	MetadataOnly bool
	// NoPrefetch does without reading ahead.
	NoPrefetch bool
}

const (
	pipeSize = 1 << 20 // what an unprivileged process may have, by default
	// laziness is how long a reader that has nearly emptied the pipe waits for
	// more. The kernel writes every command by itself, and most are tiny: to be
	// woken for each costs more than to make them.
	laziness = 300 * time.Microsecond
	// defaultPatience is how long Close waits for the kernel.
	defaultPatience = 10 * time.Second
)

// Send lets the kernel send the read-only subvolume subvol, and returns the
// stream. The caller reads it to its end or not, and closes it in any case.
//
// Reading gives io.EOF only if the kernel reported success; else the error at
// the end says why the stream is incomplete. It matches [ErrBusy] if trying
// again later makes sense, and is a [*PermissionError] for want of
// CAP_SYS_ADMIN. When ctx is done, reading gives its cause, and the kernel is
// stopped. Read and Close may be called at the same time, and Close makes a
// waiting Read return.
//
// That the kernel succeeded does not mean that the stream is sound: a process
// that was stopped and continued, or a machine that slept, makes it start again
// in the middle of the stream. The stream's reader has to look for that.
//
// Close waits until the kernel has stopped, for some seconds at most: it does
// not look whether anyone reads while it compares long stretches of metadata
// that are equal. After that Close gives up and returns an error; the kernel
// thread, and a descriptor of subvol, go when it comes to its next command. The
// subvolume cannot be deleted or made writable before.
//
// A full stream with uncompressed data is sent while files of up to 4 MiB are
// read into the page cache a little ahead of it, and dropped behind it unless
// they were there before, by one goroutine; it holds at most 64 MiB of the page
// cache. Otherwise Send holds the pipe of
// 1 MiB and a few KiB.
func Send(ctx context.Context, subvol *os.File, o SendOptions) (io.ReadCloser, error) {
	op := "sending " + subvol.Name()
	if o.Protocol == 0 {
		o.Protocol = 1
	}
	if o.Compressed && o.Protocol < 2 {
		return nil, fmt.Errorf("%s: compressed data needs protocol 2: %w", op, unix.EINVAL)
	}
	if err := sendable(op, subvol); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	if o.Parent != 0 && !slices.Contains(o.CloneSources, o.Parent) {
		o.CloneSources = append(slices.Clip(o.CloneSources), o.Parent)
	}
	own, err := duplicate(subvol) // the caller may close subvol while we are at it
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	s, write, err := newSending(op)
	if err != nil {
		own.Close()
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if o.Parent == 0 && !o.Compressed && !o.MetadataOnly && !o.NoPrefetch {
		s.ahead = startPrefetch(own)
	}
	go s.run(own, write, o)
	s.forget = context.AfterFunc(ctx, func() { s.abort(context.Cause(ctx)) })
	return s, nil
}

// sendable returns an error, for the operation op, unless subvol is a read-only
// subvolume and this process may send it.
func sendable(op string, subvol *os.File) error {
	if ok, err := IsSubvolume(subvol); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	} else if !ok {
		return fmt.Errorf("%s: not a subvolume: %w", op, unix.EINVAL)
	}
	if !capSysAdmin.held() {
		return refused(op, capSysAdmin, unix.EPERM)
	}
	if ro, err := ReadOnly(subvol); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	} else if !ro {
		return fmt.Errorf("%s: it is not read-only: %w", op, unix.EPERM)
	}
	return nil
}

func duplicate(f *os.File) (*os.File, error) {
	var dup *os.File
	err := control(f, func(fd int) error {
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("duplicating a descriptor: %w", err)
		}
		dup = os.NewFile(uintptr(fd), f.Name())
		return nil
	})
	return dup, err
}

// sending is one send under way, as its reader sees it.
type sending struct {
	op       string
	ahead    *prefetch     // nil if there is none
	forget   func() bool   // lets go of the context
	patience time.Duration // how long Close waits for the kernel

	reading sync.Mutex // held while the fields below are used
	pipe    int        // the end to read from, non-blocking; -1 when closed
	behind  cursor
	short   time.Time // when the pipe was last found nearly empty
	failed  error     // what every further Read returns

	aborting sync.Once
	aborted  atomic.Pointer[error]
	wake     *os.File // an eventfd: readable when aborted

	done   chan struct{} // closed when the kernel is done
	result error         // what it said; for after done
}

// newSending returns the reader of a new pipe, and the end to write to.
func newSending(op string) (s *sending, write int, err error) {
	var ends [2]int
	// The kernel cannot send into a pipe that does not block. To read without
	// blocking is set for that end alone.
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, fmt.Errorf("making a pipe: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.SetNonblock(ends[0], true)
	}
	if err != nil {
		unix.Close(ends[0])
		unix.Close(ends[1])
		return nil, -1, fmt.Errorf("making a pipe: %w", err)
	}
	// Without leave to have a larger one the usual size has to do.
	_, _ = unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &sending{
		op:       op,
		forget:   func() bool { return true },
		patience: defaultPatience,
		pipe:     ends[0],
		wake:     os.NewFile(uintptr(wake), "eventfd"),
		done:     make(chan struct{}),
	}, ends[1], nil
}

// run is the goroutine in which the kernel sends.
func (s *sending) run(subvol *os.File, write int, o SendOptions) {
	err := undisturbed(func() error { return sendInto(subvol, write, o) })
	if err != nil {
		s.result = explainSend(s.op, err, subvol, o)
	}
	unix.Close(write)
	subvol.Close()
	close(s.done)
}

// undisturbed runs do with all signals blocked, and ends the thread with the
// goroutine that calls it, which must do nothing else.
//
// A signal that is handled makes the kernel begin a stream again from its
// header, in the middle of the stream. And when nobody reads, SIGPIPE waits for
// the thread, which must not come back to life with it.
func undisturbed(do func() error) error {
	runtime.LockOSThread() // never unlocked: the runtime ends the thread then
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil); err != nil {
		return fmt.Errorf("blocking signals: %w", err)
	}
	return do()
}

func sendInto(subvol *os.File, write int, o SendOptions) error {
	args := sendArgs{
		fd:         int64(write),
		cloneCount: uint64(len(o.CloneSources)),
		clones:     unsafe.SliceData(o.CloneSources),
		parent:     o.Parent,
	}
	if o.Protocol > 1 {
		args.flags |= sendVersion
		args.version = o.Protocol
	}
	if o.Compressed {
		args.flags |= sendCompressed
	}
	if o.MetadataOnly {
		args.flags |= sendNoFileData
	}
	return request(subvol, iocSend, unsafe.Pointer(&args))
}

// explainSend says in an error what the kernel means.
func explainSend(op string, err error, subvol *os.File, o SendOptions) error {
	switch {
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("%s: %w: %w", op, ErrBusy, err)
	case errors.Is(err, unix.EPERM) && capSysAdmin.held():
		if why := unsendable(subvol, o); why != "" {
			return fmt.Errorf("%s: %s: %w", op, why, err)
		}
		return refused(op, capSysAdmin, err)
	case errors.Is(err, unix.EPERM):
		return refused(op, capSysAdmin, err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s: the file system made itself read-only after an error: %w", op, err)
	case errors.Is(err, unix.EPROTO):
		return fmt.Errorf("%s: the kernel does not know protocol %d: %w", op, o.Protocol, err)
	case errors.Is(err, unix.ENOENT) && len(o.CloneSources) > 0:
		return fmt.Errorf("%s: the parent or a clone source does not exist: %w", op, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

// unsendable finds which of the subvolumes that take part is not read-only.
func unsendable(subvol *os.File, o SendOptions) string {
	if ro, err := ReadOnly(subvol); err == nil && !ro {
		return "it is not read-only"
	}
	for _, id := range o.CloneSources {
		what := fmt.Sprintf("clone source %d", id)
		if id == o.Parent {
			what = fmt.Sprintf("parent %d", id)
		}
		source, err := openSubvolume(subvol, id)
		if errors.Is(err, fs.ErrNotExist) {
			return what + " is deleted"
		}
		if err != nil {
			continue
		}
		ro, err := ReadOnly(source)
		source.Close()
		if err == nil && !ro {
			return what + " is not read-only"
		}
	}
	return ""
}

// Read reads from the stream.
func (s *sending) Read(p []byte) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if len(p) == 0 || s.failed != nil {
		return 0, s.failed
	}
	s.beLazy()
	for {
		if cause := s.aborted.Load(); cause != nil {
			s.failed = fmt.Errorf("%s: %w", s.op, *cause)
			return 0, s.failed
		}
		n, err := unix.Read(s.pipe, p)
		switch {
		case err == unix.EAGAIN:
			err = s.wait()
		case n > 0 && err == nil:
			s.seen(p[:n], len(p))
			return n, nil
		case n == 0 && err == nil:
			s.failed = s.end()
			return 0, s.failed
		}
		if err != nil && err != unix.EINTR {
			s.failed = fmt.Errorf("%s: reading from the kernel: %w", s.op, err)
			return 0, s.failed
		}
	}
}

// beLazy lets the pipe fill up a little if it was nearly empty just now.
func (s *sending) beLazy() {
	if s.short.IsZero() {
		return
	}
	if rest := laziness - time.Since(s.short); rest > 0 {
		// Not time.Sleep: an idle runtime rounds that up to a millisecond, in
		// which a fast file system fills the pipe.
		pause := unix.NsecToTimespec(int64(rest))
		_ = unix.Nanosleep(&pause, nil)
	}
	s.short = time.Time{}
}

// wait returns when there is something to read, or nothing will come any more.
func (s *sending) wait() error {
	return control(s.wake, func(wake int) error {
		_, err := unix.Poll([]unix.PollFd{
			{Fd: int32(s.pipe), Events: unix.POLLIN},
			{Fd: int32(wake), Events: unix.POLLIN},
		}, -1)
		return err
	})
}

// seen takes note of what is being read. room is what could have been read.
func (s *sending) seen(p []byte, room int) {
	if len(p) < room && len(p) < pipeSize/4 {
		s.short = time.Now()
	}
	if s.ahead != nil {
		s.ahead.pass(s.behind.feed(p))
	}
}

// end returns the error at the end of the pipe.
func (s *sending) end() error {
	<-s.done // it closed the pipe: this takes no time
	if s.result != nil {
		return s.result
	}
	if s.ahead != nil {
		s.ahead.finish()
	}
	return io.EOF
}

// abort makes Read return cause, and the kernel stop for want of a reader.
func (s *sending) abort(cause error) {
	s.aborting.Do(func() {
		s.aborted.Store(&cause)
		if s.ahead != nil {
			s.ahead.halt()
		}
		_ = control(s.wake, func(fd int) error {
			_, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
			return err
		})
		s.reading.Lock()
		defer s.reading.Unlock()
		unix.Close(s.pipe)
		s.pipe = -1
	})
}

// Close stops sending; see [Send].
func (s *sending) Close() error {
	s.forget()
	s.abort(os.ErrClosed)
	limit := time.NewTimer(s.patience)
	defer limit.Stop()
	if s.ahead != nil {
		select {
		case <-s.ahead.finished:
		case <-limit.C:
			return fmt.Errorf("%s: closing: reading ahead has not come to its end", s.op)
		}
	}
	select {
	case <-s.done:
		s.wake.Close()
		return nil
	case <-limit.C:
		return fmt.Errorf("%s: closing: the kernel is still busy with it", s.op)
	}
}
