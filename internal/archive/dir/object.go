package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive"
)

// legible looks at the context and the key of a call that makes nothing.
func (b *Bucket) legible(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.CheckKey(key); err != nil {
		return fmt.Errorf("%w, since %w", archive.ErrNoObject, err)
	}
	return nil
}

// check looks at the context and the key of a call that makes an object.
func (b *Bucket) check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.CheckKey(key); err != nil {
		return fmt.Errorf("there can be no such object: %w", err)
	}
	return nil
}

// absence turns errors that say that nothing is there into ErrNoObject.
func (b *Bucket) absence(err error) error {
	if absent(err) {
		return b.missing(archive.ErrNoObject)
	}
	return err
}

// described is what a bucket says of a file.
func described(key string, at unix.Stat_t) archive.Object {
	return archive.Object{Key: key, Size: at.Size, Modified: time.Unix(at.Mtim.Unix())}
}

// Stat tells of one object. It has no tag.
func (b *Bucket) Stat(ctx context.Context, key string) (archive.Object, error) {
	o, err := b.statObject(ctx, key)
	return o, b.fail("looking at", key, err)
}

func (b *Bucket) statObject(ctx context.Context, key string) (archive.Object, error) {
	if err := b.legible(ctx, key); err != nil {
		return archive.Object{}, err
	}
	at, err := b.stat(key)
	if err == nil && at.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.ENOENT
	}
	if err != nil {
		return archive.Object{}, b.absence(err)
	}
	return described(key, at), nil
}

// Get gives a range of an object. What it gives stays the object as it was then,
// though it be replaced or deleted.
func (b *Bucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.get(ctx, key, offset, length)
	if err != nil {
		return nil, b.fail("reading", key, err)
	}
	return r, nil
}

func (b *Bucket) get(ctx context.Context, key string, offset, length int64) (*reader, error) {
	if err := b.legible(ctx, key); err != nil {
		return nil, err
	}
	if offset < 0 || length < 0 {
		return nil, fmt.Errorf("there are no %d bytes at %d", length, offset)
	}
	f, _, err := b.openObject(key)
	if err != nil {
		return nil, b.absence(err)
	}
	return &reader{ctx: ctx, b: b, key: key, f: f, part: io.NewSectionReader(f, offset, length)}, nil
}

// reader reads a range of a file.
type reader struct {
	ctx  context.Context
	b    *Bucket
	key  string
	f    *os.File
	part *io.SectionReader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, r.b.fail("reading", r.key, err)
	}
	n, err := r.part.Read(p)
	if errors.Is(err, os.ErrClosed) {
		return n, fmt.Errorf("reading %s/%s: %w", r.b, r.key, os.ErrClosed)
	}
	if err != nil && err != io.EOF {
		err = r.b.fail("reading", r.key, err)
	}
	return n, err
}

func (r *reader) Close() error {
	if err := r.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return r.b.fail("reading", r.key, err)
	}
	return nil
}

// Put makes a small object.
func (b *Bucket) Put(ctx context.Context, key string, data []byte, once bool) error {
	return b.fail("writing", key, b.put(ctx, key, data, once))
}

func (b *Bucket) put(ctx context.Context, key string, data []byte, once bool) error {
	if err := b.check(ctx, key); err != nil {
		return err
	}
	if int64(len(data)) > b.limits.Small {
		return fmt.Errorf("%d bytes are too many for one piece (%d at most)", len(data), b.limits.Small)
	}
	f, err := b.temporary()
	if err != nil {
		return err
	}
	defer b.discard(f)
	if _, err := f.Write(data); err != nil {
		return err
	}
	return b.settle(f, key, once)
}

// settle makes a file that is complete an object.
func (b *Bucket) settle(f *os.File, key string, once bool) error {
	if err := retried(f.Sync); err != nil {
		return err
	}
	// Errors that only closing tells of, on NFS.
	if err := f.Close(); err != nil {
		return err
	}
	return b.publish(f.Name(), key, once)
}

// Delete removes an object, and the directories that are empty without it.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	return b.fail("deleting", key, b.remove(ctx, key))
}

func (b *Bucket) remove(ctx context.Context, key string) error {
	if err := b.legible(ctx, key); errors.Is(err, archive.ErrNoObject) {
		return b.missing(nil)
	} else if err != nil {
		return err
	}
	dir, name, err := b.parent(key, false)
	if absent(err) {
		return b.missing(nil)
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	at, err := statIn(dir, name)
	if err == nil && at.Mode&unix.S_IFMT == unix.S_IFREG {
		err = retried(func() error { return unix.Unlinkat(int(dir.Fd()), name, 0) })
	}
	if errors.Is(err, fs.ErrNotExist) {
		return b.missing(nil)
	}
	if err != nil {
		return err
	}
	b.prune(path.Dir(key))
	return nil
}
