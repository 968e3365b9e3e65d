package btrfstest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
)

// Prepared makes New take the image of an empty file system out of a gzipped tar
// archive, where its first entry is, instead of calling mkfs.btrfs: for
// features that the mkfs.btrfs of this machine does not know. Size and Features
// have no effect then, and there is one device. All that come from one archive
// have the same UUID, which the kernel puts up with since Linux 6.7.
func Prepared(archive string) Option { return func(c *config) { c.prepared = archive } }

// unpackImage writes the image in an archive to a sparse file.
func unpackImage(to, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("reading %s: %w", archive, err)
	}
	entries := tar.NewReader(unzipped)
	head, err := entries.Next()
	if err != nil {
		return fmt.Errorf("reading %s: %w", archive, err)
	}
	if err := makeSparse(to, head.Size); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); ; off += int64(len(block)) {
		n, err := io.ReadFull(entries, block)
		if n > 0 && !bytes.Equal(block[:n], zeros[:n]) {
			if _, err := out.WriteAt(block[:n], off); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && n > 0 && off+int64(n) == head.Size {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading %s: %w", archive, err)
		}
	}
}
