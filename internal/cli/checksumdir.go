package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// newChecksumdir returns the command that sums up directories, so that copies
// can be compared.
func newChecksumdir(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:   "checksumdir [flags] DIR...",
		Short: "Sum up directories, so that copies can be compared",
		Long: `Sums up each directory in three files in the current directory, called after
the last element of the directory's name:

  NAME.ls         one line for each entry: mode, links, owner, group, time of
                  the last change of the content (UTC), path; ordered by path
  NAME.files      sha256 and path of each regular file, as sha256sum prints
                  them; ordered by path
  NAME.sha256sum  the sha256 of those two

Two directories are the same in all that these files hold exactly if the two
NAME.sha256sum hold the same sums. Not in them: sizes, targets of symbolic
links, extended attributes, device numbers, and the directory's own entry.
Directories on which something is mounted are not listed themselves; what is
below them is.

Before: you can read everything below DIR, and the current directory is not
below it.

After: the three files are there, whole, or none of them is new; older ones are
replaced. Nothing below DIR has changed. Orders are by bytes, so they do not
depend on the language that is set. In names with a line end, and in NAME.files
also in those with a backslash, these are escaped as sha256sum does it.`,
		Example: `  checksumdir /mnt/a/snaps/monday
  (cd /mnt/b/snaps/monday && sha256sum --quiet -c) <monday.files`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 { // 1, not 2: scripts know checksumdir so
				return &exitError{
					code: exitFailed, err: errors.New("name at least one directory"),
					hint: "Usage: checksumdir DIR...",
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs, err := checksumJobs(args)
			if err != nil {
				return err
			}
			for _, j := range jobs {
				if err := j.run(cmd.Context(), env); err != nil {
					return fmt.Errorf("summing up %s: %w", j.dir, err)
				}
			}
			return nil
		},
	}
}

// checksumJob is one directory to be summed up.
type checksumJob struct {
	dir  string // absolute, without symbolic links
	name string // what the results are called after
}

// checksumJobs looks at all directories before anything is written.
func checksumJobs(args []string) ([]checksumJob, error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("finding the current directory: %w", err)
	}
	var jobs []checksumJob
	taken := map[string]string{}
	for _, arg := range args {
		abs, err := filepath.Abs(arg)
		if err != nil {
			return nil, fmt.Errorf("finding %s: %w", arg, err)
		}
		dir, err := filepath.EvalSymlinks(abs)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(dir)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("%s is not a directory", arg)
		}
		inside, err := isInside(here, info)
		if err != nil {
			return nil, err
		}
		if inside {
			//lint:ignore ST1005 these are ButterSink's words
			return nil, fmt.Errorf("Can't output results into %s. Please run from a different directory", dir)
		}
		j := checksumJob{dir: dir, name: filepath.Base(abs)}
		if other, ok := taken[j.name]; ok {
			return nil, fmt.Errorf("%s and %s would both write %s.ls: run them in different directories", other, arg, j.name)
		}
		taken[j.name] = arg
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// isInside reports whether path is the given directory or lies below it.
func isInside(path string, dir os.FileInfo) (bool, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, err
	}
	for {
		info, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		if os.SameFile(info, dir) {
			return true, nil
		}
		up := filepath.Dir(path)
		if up == path {
			return false, nil
		}
		path = up
	}
}

func (j *checksumJob) run(ctx context.Context, env *Env) (err error) {
	mounts, err := mountPoints()
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(j.dir)
	if err != nil {
		return err
	}
	defer root.Close()

	var files []*sumFile
	defer func() {
		for _, f := range files {
			f.abandon()
		}
	}()
	create := func(suffix string) (*sumFile, error) {
		f, err := createSumFile(j.name + suffix)
		if err == nil {
			files = append(files, f)
		}
		return f, err
	}

	env.Log.Info(fmt.Sprintf("Getting directory entries for %s...", j.dir))
	ls, err := create(".ls")
	if err != nil {
		return err
	}
	var bytes int64 // in all files
	entries := &walker{ctx: ctx, visit: func(e entry) error {
		if e.info.Mode().IsRegular() {
			bytes += e.info.Size()
		}
		if e.info.IsDir() && mounts[filepath.Join(j.dir, e.path)] {
			return nil
		}
		return writeLine(ls, lsLine(e))
	}}
	if err := entries.walk(root, ""); err != nil {
		return err
	}

	env.Log.Info(fmt.Sprintf("Checksumming file data in %s...", j.dir))
	sums, err := create(".files")
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	watch := env.newWatch(j.name, snapshot.ExactSize(bytes))
	defer watch.close()
	data := &walker{ctx: ctx, order: escapeName, visit: func(e entry) error {
		if !e.info.Mode().IsRegular() {
			return nil
		}
		sum, err := e.sum(ctx, buf, watch)
		if err != nil {
			return err
		}
		return writeLine(sums, sumLine(sum, "./"+e.path))
	}}
	if err := data.walk(root, ""); err != nil {
		return err
	}
	watch.close()

	env.Log.Info(fmt.Sprintf("Producing overall checksums in %s.sha256sum", j.name))
	overall, err := create(".sha256sum")
	if err != nil {
		return err
	}
	for _, f := range []*sumFile{ls, sums} {
		if err := f.finish(); err != nil {
			return err
		}
		if err := writeLine(overall, sumLine(f.sum.Sum(nil), f.name)); err != nil {
			return err
		}
	}
	if err := overall.finish(); err != nil {
		return err
	}
	// The overall sums go last: should the machine stop here, they do not fit
	// what lies beside them.
	for _, f := range files {
		if err := f.publish(); err != nil {
			return err
		}
	}
	return nil
}

func writeLine(w io.Writer, line string) error {
	_, err := io.WriteString(w, line+"\n")
	return err
}

// sumFile is a file that gets its name only when it is whole, and knows the
// sha256 of what was written to it.
type sumFile struct {
	name, temporary string
	f               *os.File
	w               *bufio.Writer
	sum             hash.Hash
	published       bool
}

func createSumFile(name string) (*sumFile, error) {
	temporary := ".checksumdir-" + strconv.FormatUint(rand.Uint64(), 36)
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	s := &sumFile{name: name, temporary: temporary, f: f, sum: sha256.New()}
	s.w = bufio.NewWriterSize(io.MultiWriter(f, s.sum), 64<<10)
	return s, nil
}

func (s *sumFile) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	return n, s.explain(err)
}

// finish writes what is still held back. Only then sum is that of the file.
func (s *sumFile) finish() error {
	err := s.w.Flush()
	if err == nil {
		err = s.f.Sync()
	}
	return s.explain(errors.Join(err, s.f.Close()))
}

func (s *sumFile) publish() error {
	if err := os.Rename(s.temporary, s.name); err != nil {
		return err
	}
	s.published = true
	return nil
}

func (s *sumFile) abandon() {
	if !s.published {
		s.f.Close()
		os.Remove(s.temporary)
	}
}

func (s *sumFile) explain(err error) error {
	if err != nil {
		return fmt.Errorf("writing %s: %w", s.name, err)
	}
	return nil
}

// sumLine is the line that sha256sum prints.
func sumLine(sum []byte, path string) string {
	mark := ""
	if strings.ContainsAny(path, "\\\n\r") {
		mark, path = `\`, escapeName(path)
	}
	return fmt.Sprintf("%s%x  %s", mark, sum, path)
}

// escapeName escapes a name as sha256sum of coreutils 9 does.
func escapeName(name string) string { return nameEscapes.Replace(name) }

var nameEscapes = strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`)
