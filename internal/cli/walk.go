package cli

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// walker visits everything below a directory, ordered by the bytes of the
// whole path: "a", "a-b", "a.c", "a/b". It follows no symbolic link, and goes
// from handle to handle, so that nothing can be put in its way and no path is
// too long. It holds the names of the directories on the way down, and no more.
type walker struct {
	ctx   context.Context
	visit func(entry) error
	// order gives the text by which an element of a path is ordered; nil for
	// its bytes. It has to map "/" to itself.
	order func(string) string
}

// entry is what a walker has come to.
type entry struct {
	path string // from the top, without "./"
	name string
	dir  *os.Root // that holds it
	info fs.FileInfo
}

func (w *walker) walk(dir *os.Root, path string) error {
	type stop struct {
		key     string
		name    string
		descend bool
	}
	f, err := dir.Open(".")
	if err != nil {
		return inWalk("opening", path, err)
	}
	listed, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		return inWalk("reading", path, err)
	}
	stops := make([]stop, 0, len(listed))
	for _, e := range listed {
		key := e.Name()
		if w.order != nil {
			key = w.order(key)
		}
		stops = append(stops, stop{key, e.Name(), false})
		if e.IsDir() {
			stops = append(stops, stop{key + "/", e.Name(), true})
		}
	}
	slices.SortFunc(stops, func(a, b stop) int { return strings.Compare(a.key, b.key) })

	for _, s := range stops {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		info, err := dir.Lstat(s.name)
		if err != nil {
			return inWalk("looking at", path+s.name, err)
		}
		if !s.descend {
			if err := w.visit(entry{path + s.name, s.name, dir, info}); err != nil {
				return err
			}
			continue
		}
		if err := w.descend(dir, s.name, path, info); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) descend(dir *os.Root, name, path string, info fs.FileInfo) error {
	below, err := dir.OpenRoot(name)
	if err != nil {
		return inWalk("opening", path+name, err)
	}
	defer below.Close()
	if opened, err := below.Stat("."); err != nil {
		return inWalk("looking at", path+name, err)
	} else if !os.SameFile(opened, info) {
		return inWalk("opening", path+name, errReplaced)
	}
	return w.walk(below, path+name+"/")
}

var errReplaced = errors.New("it was replaced by something else meanwhile")

// inWalk names the place of an error by its path from the top.
func inWalk(doing, path string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	if path == "" {
		path = "the directory"
	}
	return fmt.Errorf("%s %s: %w", doing, strings.TrimSuffix(path, "/"), err)
}

// sum returns the sha256 of a regular file. The watch may be nil.
func (e entry) sum(ctx context.Context, buf []byte, watch *watch) ([]byte, error) {
	// Should it be a fifo by now, opening must not wait for a writer.
	f, err := e.dir.OpenFile(e.name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, inWalk("opening", e.path, err)
	}
	defer f.Close()
	if opened, err := f.Stat(); err != nil {
		return nil, inWalk("looking at", e.path, err)
	} else if !os.SameFile(opened, e.info) || !opened.Mode().IsRegular() {
		return nil, inWalk("opening", e.path, errReplaced)
	}
	h := sha256.New()
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		watch.read(n)
		if err == io.EOF {
			return h.Sum(nil), nil
		}
		if err != nil {
			return nil, inWalk("reading", e.path, err)
		}
	}
}

// lsLine is the line of an entry in NAME.ls.
func lsLine(e entry) string {
	st := e.info.Sys().(*syscall.Stat_t)
	mark, path := "", e.path
	if strings.Contains(path, "\n") {
		mark, path = `\`, escapeName(path)
	}
	return fmt.Sprintf("%s%s %d %4d %4d %s %s", mark, modeText(st.Mode), st.Nlink, st.Uid, st.Gid,
		time.Unix(st.Mtim.Unix()).UTC().Format("2006-01-02 15:04:05.000000000")+"0", path)
}

// modeText writes a mode as ls(1) does: "-rwxr-sr-t".
func modeText(mode uint32) string {
	b := []byte("?rwxrwxrwx")
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		b[0] = '-'
	case syscall.S_IFDIR:
		b[0] = 'd'
	case syscall.S_IFLNK:
		b[0] = 'l'
	case syscall.S_IFIFO:
		b[0] = 'p'
	case syscall.S_IFSOCK:
		b[0] = 's'
	case syscall.S_IFCHR:
		b[0] = 'c'
	case syscall.S_IFBLK:
		b[0] = 'b'
	}
	for i := range 9 {
		if mode&(0o400>>i) == 0 {
			b[1+i] = '-'
		}
	}
	special := func(bit uint32, at int, with, without byte) {
		if mode&bit == 0 {
			return
		}
		if b[at] == 'x' {
			b[at] = with
		} else {
			b[at] = without
		}
	}
	special(syscall.S_ISUID, 3, 's', 'S')
	special(syscall.S_ISGID, 6, 's', 'S')
	special(syscall.S_ISVTX, 9, 't', 'T')
	return string(b)
}

// mountPoints returns all paths on which something is mounted, as proc(5)
// lists them in the fifth field of /proc/self/mountinfo.
func mountPoints() (map[string]bool, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing the mount points: %w", err)
	}
	points := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		// Blanks in a field are escaped; a carriage return, say, is not.
		if fields := strings.Split(line, " "); len(fields) > 4 {
			points[filepath.Clean(mountEscapes.Replace(fields[4]))] = true
		}
	}
	return points, nil
}

var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
