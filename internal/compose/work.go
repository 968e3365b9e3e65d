package compose

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// A worker reads the data of batches.
type worker struct {
	ctx      context.Context
	data     *btrfs.FileData
	protocol uint32

	command stream.Command
	frames  []int // where those begin whose data are being read
	pieces  [][]byte
}

// work is the goroutine of a worker.
func (w *worker) work(batches <-chan *batch) {
	defer w.data.Close()
	for b := range batches {
		b.err = w.fill(b)
		b.done <- struct{}{}
	}
}

// fill makes the batch's piece of the stream.
func (w *worker) fill(b *batch) error {
	b.out = slices.Grow(b.out[:0], b.size)
	done := 0
	for i := range b.fills {
		if w.ctx.Err() != nil {
			return errStopped
		}
		f := &b.fills[i]
		b.out = append(b.out, b.script[done:f.at]...)
		done = f.at
		path := b.paths[f.path:f.pathEnd]
		err := w.data.Open(f.ino, f.generation)
		if err == nil {
			b.out, err = w.read(b.out, path, f)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
	}
	b.out = append(b.out, b.script[done:]...)
	// A file that is left open would stay in use when it is not needed any more.
	w.data.Close()
	return nil
}

// read appends the commands for some data of the open file.
func (w *worker) read(out, path []byte, f *fill) ([]byte, error) {
	if f.stored == 0 {
		return w.readPlain(out, path, f)
	}
	encoded, err := w.readEncoded(out, path, f)
	if errors.Is(err, btrfs.ErrNotEncoded) {
		return w.readPlain(out, path, f)
	}
	return encoded, err
}

func (w *worker) readPlain(out, path []byte, f *fill) ([]byte, error) {
	chunk := uint64(stream.MaxWrite(w.protocol))
	// Room for all at once: the pieces have to stay where they are.
	count := int((f.length + chunk - 1) / chunk)
	out = slices.Grow(out, int(f.length)+count*(len(path)+64))
	w.frames, w.pieces = w.frames[:0], w.pieces[:0]
	for offset, rest := f.offset, f.length; rest > 0; {
		n := min(rest, chunk)
		w.frames = append(w.frames, len(out))
		w.command = stream.Command{Kind: stream.Write, Path: path, FileOffset: offset}
		var err error
		if out, err = stream.AppendUnsealed(out, w.protocol, &w.command, int(n)); err != nil {
			return nil, err
		}
		w.pieces = append(w.pieces, out[len(out)-int(n):])
		offset, rest = offset+n, rest-n
	}
	if err := w.data.ReadAt(w.pieces, int64(f.offset), f.direct); err != nil {
		return nil, err
	}
	for i, begin := range w.frames {
		end := len(out)
		if i+1 < len(w.frames) {
			end = w.frames[i+1]
		}
		stream.Seal(out[begin:end])
	}
	return out, nil
}

func (w *worker) readEncoded(out, path []byte, f *fill) ([]byte, error) {
	begin := len(out)
	w.command = stream.Command{
		Kind: stream.EncodedWrite, Path: path, FileOffset: f.offset,
		UnencodedFileLen: f.length, UnencodedLen: f.decoded, UnencodedOffset: f.decodedOffset, Compression: f.compression,
	}
	out, err := stream.AppendUnsealed(out, w.protocol, &w.command, int(f.stored))
	if err != nil {
		return nil, err
	}
	n, x, err := w.data.ReadEncoded(out[len(out)-int(f.stored):], int64(f.offset))
	switch {
	case err != nil:
		return nil, err
	case x.Compression == 0 || x.Encryption != 0 || x.FileLen < f.length || x.UnencodedOffset > x.UnencodedLen || f.length > x.UnencodedLen-x.UnencodedOffset:
		// Somebody has moved it since.
		return nil, btrfs.ErrNotEncoded
	case n == int(f.stored) && x.UnencodedLen == f.decoded && x.UnencodedOffset == f.decodedOffset && x.Compression == f.compression:
	default:
		// The data are where they belong, since the numbers take the same room.
		w.command.UnencodedLen, w.command.UnencodedOffset, w.command.Compression = x.UnencodedLen, x.UnencodedOffset, x.Compression
		if out, err = stream.AppendUnsealed(out[:begin], w.protocol, &w.command, n); err != nil {
			return nil, err
		}
	}
	stream.Seal(out[begin:])
	return out, nil
}
