package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive"
)

// Begin starts an upload.
func (b *Bucket) Begin(ctx context.Context, key string, o archive.UploadOptions) (archive.Upload, error) {
	u, err := b.begin(ctx, key, o)
	if err != nil {
		return nil, b.fail("beginning", key, err)
	}
	return u, nil
}

func (b *Bucket) begin(ctx context.Context, key string, o archive.UploadOptions) (*upload, error) {
	if err := b.check(ctx, key); err != nil {
		return nil, err
	}
	if o.PartSize < b.limits.MinPart || o.PartSize > b.limits.MaxPart {
		return nil, fmt.Errorf("parts of %d bytes are not possible", o.PartSize)
	}
	b.sweep.Do(b.tidy)
	d := description{Version: descriptionVersion, Key: key, PartSize: o.PartSize, Begun: time.Now().UTC().Truncate(time.Second)}
	u := &upload{b: b, id: random(), d: d, sure: map[int]record{}}
	if err := u.begin(); err != nil {
		_ = u.remove()
		return nil, err
	}
	return u, nil
}

// begin makes the files. The data come last: without them there is no upload.
func (u *upload) begin() error {
	raw, err := u.d.encode()
	if err != nil {
		return err
	}
	for _, file := range []struct {
		name string
		data []byte
	}{{describedIn, raw}, {recordsIn, nil}, {dataIn, nil}} {
		if err := u.create(file.name, file.data); err != nil {
			return err
		}
	}
	return nil
}

func (u *upload) create(name string, data []byte) error {
	dir, _, err := u.b.parent(u.path(name), true)
	if err != nil {
		return err
	}
	_ = dir.Close()
	f, err := u.b.open(u.path(name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// Uploads gives the uploads of keys that begin with a prefix. What is in our folder
// and is none is left out, with a warning if it cannot come from a process that
// died.
func (b *Bucket) Uploads(ctx context.Context, prefix string) iter.Seq2[archive.Unfinished, error] {
	return func(yield func(archive.Unfinished, error) bool) {
		names, err := b.inFolder(ctx)
		if err != nil {
			yield(archive.Unfinished{}, b.fail("listing the uploads of", "", err))
			return
		}
		for _, name := range names {
			u, err := b.known(ctx, name)
			switch {
			case errors.Is(err, archive.ErrNoUpload):
				continue
			case err != nil:
				yield(archive.Unfinished{}, b.fail("looking at the upload", Folder+"/"+name, err))
				return
			case strings.HasPrefix(u.d.Key, prefix) && !yield(u.Unfinished(), nil):
				return
			}
		}
	}
}

// inFolder returns the names of what may be uploads.
func (b *Bucket) inFolder(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	folder, err := b.openDir(Folder)
	if absent(err) {
		return nil, b.missing(nil)
	}
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	all, err := folder.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		if isID(name) {
			names = append(names, name)
		} else if !strings.HasPrefix(name, tempPrefix) {
			b.log.Warn("there is something strange among the unfinished uploads", "bucket", b.String(), "path", Folder+"/"+name)
		}
	}
	return names, nil
}

// isID reports whether a text is what random gives.
func isID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}

// known reads what an upload is; ErrNoUpload if it is none.
func (b *Bucket) known(ctx context.Context, id string) (*upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !isID(id) {
		return nil, archive.ErrNoUpload
	}
	u := &upload{b: b, id: id, sure: map[int]record{}}
	at, err := b.stat(u.path(dataIn))
	if absent(err) || err == nil && (at.Mode&unix.S_IFMT != unix.S_IFREG || at.Nlink != 1) {
		return nil, b.missing(archive.ErrNoUpload)
	}
	if err != nil {
		return nil, err
	}
	u.d, err = u.describe()
	if err == nil {
		err = b.CheckKey(u.d.Key)
	}
	if err == nil || errors.Is(err, archive.ErrNoUpload) {
		return u, err
	}
	if _, ok := errors.AsType[unix.Errno](err); ok {
		return nil, err // it may be there
	}
	b.log.Warn("what an unfinished upload is cannot be read: it is left alone", "bucket", b.String(),
		"path", Folder+"/"+id, "err", err)
	return nil, archive.ErrNoUpload
}

func (u *upload) describe() (description, error) {
	f, err := u.open(describedIn, unix.O_RDONLY)
	if err != nil {
		return description{}, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, longestDescription+1))
	if err != nil {
		return description{}, err
	}
	return parseDescription(raw)
}

// Continue takes up an upload again.
func (b *Bucket) Continue(ctx context.Context, un archive.Unfinished) (archive.Upload, error) {
	u, err := b.known(ctx, un.ID)
	if err == nil && u.d.Key != un.Key {
		err = archive.ErrNoUpload
	}
	if err != nil {
		return nil, b.fail("carrying on", un.Key, err)
	}
	return u, nil
}

// stale is how old something is that is of use to nobody.
const stale = 24 * time.Hour

// tidy removes what processes have left in our folder that died: files that never
// got a name, and folders that are no uploads. Nothing is lost if it fails.
func (b *Bucket) tidy() {
	b.wrote.Store(true)
	folder, err := b.openDir(Folder)
	if err != nil {
		return
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return
	}
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, tempPrefix) && b.old(folder, name):
			_ = unix.Unlinkat(int(folder.Fd()), name, 0)
		case isID(name) && b.old(folder, name):
			u := &upload{b: b, id: name}
			if at, err := b.stat(u.path(dataIn)); errors.Is(err, fs.ErrNotExist) || err == nil && at.Nlink > 1 {
				_ = u.remove()
			}
		}
	}
}

// old reports whether nobody has touched something for a day.
func (b *Bucket) old(folder *os.File, name string) bool {
	at, err := statIn(folder, name)
	return err == nil && time.Since(time.Unix(at.Mtim.Unix())) > stale
}
