package btrfstest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// PowerCut returns the file system as it would be found after a power cut at
// this moment: what it has handed to its device so far, without what it still
// holds in memory. The original goes on and is not disturbed. The copy is
// mounted beside it, which takes Linux 6.7 or later (a temporary fsid) and a
// single device. Nothing may write meanwhile, for a device is not copied in an
// instant; mount with "commit=300" if a periodic commit would spoil the test.
func (fs *FS) PowerCut() *FS {
	fs.t.Helper()
	if len(fs.Devices) != 1 {
		fs.t.Fatal("a power cut can be played on a single device only")
	}
	cut := bench(fs.t, fs.options)
	image := filepath.Join(cut.guard.dir, "image0")
	if err := copySparse(image, fs.Image); err != nil {
		fs.t.Fatalf("copying %s: %v", fs.Image, err)
	}
	cut.attach(image)
	cut.Mount()
	return cut
}

// copySparse copies the data of a file and leaves its holes alone.
func copySparse(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := makeSparse(to, info.Size()); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	return eachData(in, func(start, end int64) error {
		_, err := io.Copy(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start))
		return err
	})
}

// eachData calls do for every range of a file that is no hole.
func eachData(f *os.File, do func(start, end int64) error) error {
	for end := int64(0); ; {
		start, err := f.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		} else if err != nil {
			return fmt.Errorf("looking for data: %w", err)
		}
		if end, err = f.Seek(start, unix.SEEK_HOLE); err != nil {
			return fmt.Errorf("looking for a hole: %w", err)
		}
		if err := do(start, end); err != nil {
			return err
		}
	}
}
