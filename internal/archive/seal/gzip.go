package seal

import (
	"bufio"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// MaxGzipLevel is the highest level of compression by gzip, and gzipLevel the one
// that is taken where none is given: it is btrsend's.
const (
	MaxGzipLevel = 9
	gzipLevel    = 4
)

// newGzipWriter returns the stage that compresses by gzip (RFC 1952), as one
// member without a name or a time.
func newGzipWriter(dst io.Writer, o Options) (io.WriteCloser, error) {
	level := o.Level
	if level == 0 {
		level = gzipLevel
	}
	w, err := gzip.NewWriterLevel(dst, level)
	if err != nil {
		return nil, fmt.Errorf("setting up gzip: %w", err)
	}
	return w, nil
}

// gzipBound is the longest a stream of n bytes can get: what does not become
// shorter is stored in blocks, none of which but the last is shorter than 8 KiB,
// with some bytes each.
func gzipBound(n int64) int64 { return n + n>>10 + 64<<10 }

// gunzipper undoes gzip: one member or several, one after the other, and nothing
// else. It reads nothing before it is read from.
type gunzipper struct {
	src io.Reader
	in  *gzip.Reader // nil before the first Read
}

func (g *gunzipper) Read(p []byte) (int, error) {
	if g.in == nil {
		in, err := gzip.NewReader(bufio.NewReaderSize(g.src, 64<<10))
		if err == io.EOF {
			return 0, io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		g.in = in
	}
	return g.in.Read(p)
}
