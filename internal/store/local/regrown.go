package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// completing is an increment of the kernel with what the kernel leaves out
// (btrfs.Regrown) at its end, where every path is what it is in the snapshot.
type completing struct {
	io.ReadCloser // of the kernel
	stream        io.Reader

	stop     context.CancelFunc
	searched chan struct{} // closed when the search is over
	files    []btrfs.Regrown
	err      error // of the search
}

// completed makes a stream complete. The search goes on beside it. Metadata is
// set where the stream is one without data.
func completed(ctx context.Context, x *ends, raw io.ReadCloser, version uint32, metadata bool) io.ReadCloser {
	ctx, stop := context.WithCancel(ctx)
	c := &completing{ReadCloser: raw, stop: stop, searched: make(chan struct{})}
	go func() {
		defer close(c.searched)
		c.files, c.err = btrfs.RegrownFiles(ctx, x.toFile, x.fromFile)
	}()
	next := 0 // of files, which can be many: one is held at a time
	c.stream = stream.BeforeEnd(raw, version, func() ([]*stream.Command, error) {
		<-c.searched
		if c.err != nil || next == len(c.files) {
			return nil, c.err
		}
		file := c.files[next]
		next++
		commands, err := restOf(x.toFile, file, version, metadata)
		if err != nil {
			return nil, fmt.Errorf("completing %q: %w", file.Path, err)
		}
		return commands, nil
	})
	return c
}

func (c *completing) Read(p []byte) (int, error) { return c.stream.Read(p) }

// Close also ends the search, which uses the descriptors of the snapshots.
func (c *completing) Close() error {
	c.stop()
	err := c.ReadCloser.Close()
	<-c.searched
	return err
}

// fileCapability is an attribute that writing to a file takes away.
const fileCapability = "security.capability"

// restOf returns the commands that give a file the rest of the block in which it
// ended in the parent.
func restOf(snapshot *os.File, file btrfs.Regrown, version uint32, metadata bool) ([]*stream.Command, error) {
	f, err := openFileIn(snapshot, file.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Ino != file.Ino || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("another file has its path")
	}
	path := []byte(file.Path)
	var all []*stream.Command
	if n := file.To - file.From; metadata {
		all = append(all, &stream.Command{Kind: stream.UpdateExtent, Path: path, FileOffset: file.From, Size: n})
	} else {
		data := make([]byte, n)
		if _, err := f.ReadAt(data, int64(file.From)); err != nil {
			return nil, err
		}
		most := stream.MaxWrite(version)
		for at := 0; at < len(data); at += most {
			all = append(all, &stream.Command{
				Kind: stream.Write, Path: path, FileOffset: file.From + uint64(at), Data: data[at:min(at+most, len(data))],
			})
		}
	}
	value := make([]byte, 256)
	n, err := unix.Fgetxattr(int(f.Fd()), fileCapability, value)
	switch {
	case err == nil:
		all = append(all, &stream.Command{Kind: stream.SetXattr, Path: path, XattrName: []byte(fileCapability), XattrData: value[:n]})
	case err != unix.ENODATA && err != unix.EOPNOTSUPP:
		return nil, fmt.Errorf("reading %s: %w", fileCapability, err)
	}
	return append(all, &stream.Command{
		Kind: stream.Utimes, Path: path,
		Atime: timeOf(st.Atim), Mtime: timeOf(st.Mtim), Ctime: timeOf(st.Ctim),
	}), nil
}

func timeOf(t unix.Timespec) stream.Time { return stream.Time{Sec: t.Sec, Nsec: uint32(t.Nsec)} }

// openFileIn opens a file of a snapshot by its path, and nothing that lies
// elsewhere.
func openFileIn(snapshot *os.File, path string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOATIME | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(int(snapshot.Fd()), path, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), path), nil
		case unix.EINTR, unix.EAGAIN: // a rename elsewhere: openat2(2)
		default:
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}
