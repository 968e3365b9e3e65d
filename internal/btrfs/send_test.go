package btrfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// sendAll returns a whole stream.
func sendAll(t testing.TB, path string, o SendOptions) []byte {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	stream, err := Send(context.Background(), f, o)
	must(t, err)
	data, err := io.ReadAll(stream)
	must(t, err)
	must(t, stream.Close())
	return data
}

// descriptors counts the open descriptors of the process.
func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(names)
}

// silentThreads counts the threads of the process that have all signals blocked.
func silentThreads(t testing.TB) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	n := 0
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if task.Name() == strconv.Itoa(os.Getpid()) {
			continue // the runtime parks the first thread instead of ending it
		}
		if err == nil && bytes.Contains(status, []byte("SigBlk:\tfffffffffffbfeff")) {
			n++
		}
	}
	return n
}

// manyFiles fills dir with n files of 1 to 16 KiB, in random order of content.
func manyFiles(t testing.TB, dir string, n int) {
	t.Helper()
	block := make([]byte, 16<<10)
	for i := range n {
		if i%500 == 0 {
			must(t, os.MkdirAll(fmt.Sprintf("%s/%d", dir, i/500), 0o755))
		}
		seed := sha256.Sum256([]byte(strconv.Itoa(i)))
		for at := 0; at < len(block); at += len(seed) {
			copy(block[at:], seed[:])
		}
		size := 1<<10 + int(seed[0])<<8*15/256*4
		must(t, os.WriteFile(fmt.Sprintf("%s/%d/%d", dir, i/500, i), block[:min(size, len(block))], 0o644))
	}
}

// Our streams are byte for byte those of btrfs send.
func TestSendIsBtrfsSend(t *testing.T) {
	bench := btrfstest.New(t, btrfstest.MountOptions("compress=zstd"))
	live := bench.Subvolume("live")
	tree := btrfstest.NewTree(t, live, 7)
	tree.Fill()
	one := bench.Snapshot("live", "one", true)
	tree.Mutate()
	two := bench.Snapshot("live", "two", true)
	tree.Mutate()
	three := bench.Snapshot("live", "three", true)
	id := func(path string) uint64 { return info(t, path).ID }
	for _, c := range []struct {
		name string
		path string
		o    SendOptions
		args []string
	}{
		{"full", one, SendOptions{}, nil},
		{"full without prefetch", one, SendOptions{Protocol: 1, NoPrefetch: true}, nil},
		{"full, protocol 2", one, SendOptions{Protocol: 2}, []string{"--proto", "2"}},
		{"full, compressed", one, SendOptions{Protocol: 2, Compressed: true}, []string{"--proto", "2", "--compressed-data"}},
		{"metadata", one, SendOptions{MetadataOnly: true}, []string{"--no-data"}},
		{"increment", two, SendOptions{Parent: id(one)}, []string{"-p", one}},
		{"increment, clone source", three, SendOptions{Parent: id(one), CloneSources: []uint64{id(two)}}, []string{"-p", one, "-c", two}},
		{"increment, compressed", three, SendOptions{Parent: id(two), Protocol: 2, Compressed: true}, []string{"-p", two, "--proto", "2", "--compressed-data"}},
		{"increment, metadata", three, SendOptions{Parent: id(two), MetadataOnly: true}, []string{"-p", two, "--no-data"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := sendAll(t, c.path, c.o)
			want := bench.Send(c.path, c.args...)
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes, want %d, or others", len(got), len(want))
			}
		})
	}
}

func TestSendRefuses(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	must(t, os.Mkdir(bench.Path("live/dir"), 0o755))
	one := opened(t, bench.Snapshot("live", "one", true))
	live, dir := opened(t, bench.Path("live")), opened(t, bench.Path("live/dir"))
	ended, end := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	end(cause)
	for _, c := range []struct {
		name string
		ctx  context.Context
		f    *os.File
		o    SendOptions
		want error
	}{
		{"writable", t.Context(), live, SendOptions{}, unix.EPERM},
		{"directory", t.Context(), dir, SendOptions{}, unix.EINVAL},
		{"compressed by protocol 1", t.Context(), one, SendOptions{Compressed: true}, unix.EINVAL},
		{"ended", ended, one, SendOptions{}, cause},
		{"closed", t.Context(), closed(t, bench.Path("one")), SendOptions{}, os.ErrClosed},
	} {
		if s, err := Send(c.ctx, c.f, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
			if err == nil {
				s.Close()
			}
		}
	}
	// What only the kernel finds comes to the reader.
	for _, c := range []struct {
		name string
		o    SendOptions
		want error
		text string
	}{
		{"writable parent", SendOptions{Parent: info(t, bench.Path("live")).ID}, unix.EPERM, "is not read-only"},
		{"no such parent", SendOptions{Parent: 4711}, unix.ENOENT, "does not exist"},
		{"protocol 9", SendOptions{Protocol: 9}, unix.EPROTO, "protocol 9"},
	} {
		s, err := Send(t.Context(), one, c.o)
		must(t, err)
		_, err = io.ReadAll(s)
		if !errors.Is(err, c.want) || !bytes.Contains([]byte(err.Error()), []byte(c.text)) {
			t.Errorf("%s: got %v, want %v and %q", c.name, err, c.want, c.text)
		}
		if _, again := s.Read(make([]byte, 1)); again != err {
			t.Errorf("%s: the error does not stay: %v", c.name, again)
		}
		must(t, s.Close())
	}
}

func closed(t testing.TB, path string) *os.File {
	f, err := os.Open(path)
	must(t, err)
	f.Close()
	return f
}

func TestExplainSend(t *testing.T) {
	err := explainSend("sending x", unix.EAGAIN, nil, SendOptions{})
	if !errors.Is(err, ErrBusy) || !errors.Is(err, unix.EAGAIN) {
		t.Errorf("got %v", err)
	}
}

// However it is ended, nothing is left of a send: no descriptor, no thread, no
// goroutine (TestMain looks), and the snapshot can be deleted at once.
func TestSendEnds(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	manyFiles(t, bench.Path("live"), 3000)
	top := opened(t, bench.Dir)
	for _, c := range []struct {
		name string
		end  func(t *testing.T, s io.ReadCloser, cancel context.CancelCauseFunc)
	}{
		{"unread", func(t *testing.T, s io.ReadCloser, _ context.CancelCauseFunc) {}},
		{"a little", func(t *testing.T, s io.ReadCloser, _ context.CancelCauseFunc) {
			_, err := io.ReadFull(s, make([]byte, 100_000))
			must(t, err)
		}},
		{"to the end", func(t *testing.T, s io.ReadCloser, _ context.CancelCauseFunc) {
			_, err := io.Copy(io.Discard, s)
			must(t, err)
		}},
		{"byte by byte", func(t *testing.T, s io.ReadCloser, _ context.CancelCauseFunc) {
			_, err := io.ReadFull(iotest.OneByteReader(s), make([]byte, 10_000))
			must(t, err)
		}},
		{"cancelled", func(t *testing.T, s io.ReadCloser, cancel context.CancelCauseFunc) {
			_, err := io.ReadFull(s, make([]byte, 100_000))
			must(t, err)
			cause := errors.New("no more")
			cancel(cause)
			if _, err := io.Copy(io.Discard, s); !errors.Is(err, cause) {
				t.Errorf("got %v", err)
			}
		}},
		{"cancelled while a reader waits", func(t *testing.T, s io.ReadCloser, cancel context.CancelCauseFunc) {
			// To take the pipe empty and then wait is not to be had for sure;
			// what is sure is that the reader does not stay.
			go func() { time.Sleep(5 * time.Millisecond); cancel(nil) }()
			if _, err := io.Copy(io.Discard, s); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}},
		{"closed while it is read", func(t *testing.T, s io.ReadCloser, _ context.CancelCauseFunc) {
			var reading sync.WaitGroup
			defer reading.Wait()
			reading.Go(func() {
				if _, err := io.Copy(io.Discard, s); err != nil && !errors.Is(err, os.ErrClosed) {
					t.Errorf("got %v", err)
				}
			})
			time.Sleep(5 * time.Millisecond)
			must(t, s.Close())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := bench.Snapshot("live", "one", true)
			fds, silent := descriptors(t), silentThreads(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			f, err := os.Open(path)
			must(t, err)
			s, err := Send(ctx, f, SendOptions{})
			must(t, err)
			f.Close() // Send has its own
			for silentThreads(t) == silent && c.name == "unread" {
				runtime.Gosched() // it fills the pipe and stays
			}
			c.end(t, s, cancel)
			start := time.Now()
			must(t, s.Close())
			must(t, s.Close())
			if took := time.Since(start); took > time.Second {
				t.Errorf("closing took %v", took)
			}
			if _, err := s.Read(make([]byte, 1)); err == nil {
				t.Error("read after close")
			}
			if err := DeleteSubvolume(top, "one"); err != nil {
				t.Error(err)
			}
			if n := descriptors(t); n != fds {
				t.Errorf("%d descriptors, before %d", n, fds)
			}
			for end := time.Now().Add(2 * time.Second); silentThreads(t) > silent; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Error("the thread is still there")
					break
				}
			}
		})
	}
}

// A reader of an idle send is woken by Close.
func TestCloseWakesReader(t *testing.T) {
	s, write, err := newSending("testing")
	must(t, err)
	got := make(chan error)
	go func() {
		_, err := s.Read(make([]byte, 10))
		got <- err
	}()
	time.Sleep(10 * time.Millisecond)
	go func() {
		var b [1]byte // the kernel's part
		for {
			if _, err := unix.Write(write, b[:]); err != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		unix.Close(write)
		close(s.done)
	}()
	if err := <-got; err != nil {
		t.Errorf("got %v", err)
	}
	go func() {
		for {
			if _, err := s.Read(make([]byte, 10)); err != nil {
				got <- err
				return
			}
		}
	}()
	must(t, s.Close())
	if err := <-got; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// Close does not wait for ever for a kernel that does not listen.
func TestCloseGivesUp(t *testing.T) {
	s, write, err := newSending("testing")
	must(t, err)
	s.patience = time.Millisecond
	if err := s.Close(); err == nil {
		t.Error("closed, although the kernel has not come to its end")
	}
	unix.Close(write)
	close(s.done)
	must(t, s.Close())
}

// Handled signals do not get into the stream.
func TestSendUnderSignals(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	manyFiles(t, bench.Path("live"), 1000)
	one := bench.Snapshot("live", "one", true)
	want := sha256.Sum256(bench.Send(one))

	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGUSR1, syscall.SIGWINCH)
	defer signal.Stop(handled)
	stop := make(chan struct{})
	var storm sync.WaitGroup
	storm.Go(func() {
		pid := os.Getpid()
		for {
			select {
			case <-stop:
				return
			case <-handled:
			default:
			}
			// To every thread by itself: that is what the kernel would choose
			// from.
			tasks, _ := os.ReadDir("/proc/self/task")
			for _, task := range tasks {
				if tid, err := strconv.Atoi(task.Name()); err == nil {
					_ = unix.Tgkill(pid, tid, unix.SIGUSR1)
				}
			}
			runtime.GC()
			time.Sleep(500 * time.Microsecond)
		}
	})
	for range 2 {
		if got := sha256.Sum256(sendAll(t, one, SendOptions{})); got != want {
			t.Error("another stream")
		}
	}
	close(stop)
	storm.Wait()
}

// Several at once do not get in each other's way.
func TestSendsAtOnce(t *testing.T) {
	bench := btrfstest.New(t)
	live := bench.Subvolume("live")
	btrfstest.NewTree(t, live, 3).Fill()
	one := bench.Snapshot("live", "one", true)
	want := bench.Send(one)
	f := opened(t, one)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := Send(t.Context(), f, SendOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
			}
		})
	}
	all.Wait()
}

// What was not in the page cache before is not in it afterwards, and what was
// is.
func TestPrefetchLeavesTheCacheAsItWas(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	manyFiles(t, bench.Path("live"), 1000)
	bench.Snapshot("live", "one", true)
	bench.Remount()
	warm := bench.Path("one/0/30")
	data, err := os.ReadFile(warm)
	must(t, err)
	sendAll(t, bench.Path("one"), SendOptions{})
	cached := 0
	for i := range 1000 {
		path := bench.Path(fmt.Sprintf("one/%d/%d", i/500, i))
		f, err := os.Open(path)
		must(t, err)
		st, err := f.Stat()
		must(t, err)
		pages, ok := cachedPages(int(f.Fd()), uint64(st.Size()))
		resident, known := residentPages(int(f.Fd()), uint64(st.Size()))
		f.Close()
		if !ok || !known || pages != resident {
			t.Fatalf("%s: %d pages by cachestat (%v), %d by mincore (%v)", path, pages, ok, resident, known)
		}
		if path == warm && pages == 0 && len(data) > prefetchMin {
			t.Error("what was cached before is gone")
		} else if path != warm && pages > 0 {
			cached++
		}
	}
	// The last ones, and those that the kernel came to first.
	if cached > 50 {
		t.Errorf("%d files are still cached", cached)
	}
}

func TestCloneSourcesOfTheCallerStay(t *testing.T) {
	bench := btrfstest.New(t)
	bench.Subvolume("live")
	one, two := bench.Snapshot("live", "one", true), bench.Snapshot("live", "two", true)
	sources := make([]uint64, 0, 4)
	sendAll(t, two, SendOptions{Parent: info(t, one).ID, CloneSources: sources})
	if got := sources[:1]; !slices.Equal(got, []uint64{0}) {
		t.Errorf("the caller's slice was written to: %v", got)
	}
}
