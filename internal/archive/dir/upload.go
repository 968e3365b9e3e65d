package dir

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/archive"
)

// step is how much of a part is held in memory.
const step = 1 << 20

// upload is an object that is being made.
type upload struct {
	b    *Bucket
	id   string
	d    description
	mu   sync.Mutex
	sure map[int]record // of which the data are known to be there
}

// Unfinished names the upload.
func (u *upload) Unfinished() archive.Unfinished {
	return archive.Unfinished{Key: u.d.Key, ID: u.id, Begun: u.d.Begun}
}

func (u *upload) path(name string) string { return Folder + "/" + u.id + "/" + name }

// open opens a file of the upload.
func (u *upload) open(name string, flags uint64) (*os.File, error) {
	f, err := u.b.open(u.path(name), flags)
	if absent(err) {
		return nil, u.b.missing(archive.ErrNoUpload)
	}
	return f, err
}

// openData opens the data under a lock. Whoever has it shared may write to them,
// and whoever has it alone may make them an object, which nobody may write to.
func (u *upload) openData(ctx context.Context, how int) (*os.File, error) {
	f, err := u.open(dataIn, unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := u.lockData(ctx, f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (u *upload) lockData(ctx context.Context, f *os.File, how int) error {
	for {
		err := lock(f, how|unix.LOCK_NB)
		if err == nil {
			break
		}
		if err != unix.EWOULDBLOCK {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	// It may have become an object meanwhile, or have been taken for one with
	// link(2) by a process that died before it removed this name.
	dir, name, err := u.b.parent(u.path(dataIn), false)
	if err != nil {
		return u.b.missing(archive.ErrNoUpload)
	}
	defer dir.Close()
	at, err := statIn(dir, name)
	if err != nil || at.Nlink != 1 || !sameFile(f, dir, name) {
		return u.b.missing(archive.ErrNoUpload)
	}
	return nil
}

// Put stores a part.
func (u *upload) Put(ctx context.Context, number int, body archive.Body) (archive.Part, error) {
	r, err := u.put(ctx, number, body)
	if err != nil {
		return archive.Part{}, u.b.fail(fmt.Sprintf("storing part %d of", number), u.d.Key, err)
	}
	return r.Part, nil
}

func (u *upload) put(ctx context.Context, number int, body archive.Body) (record, error) {
	none := record{}
	switch {
	case ctx.Err() != nil:
		return none, ctx.Err()
	case number < 1 || number > maxParts:
		return none, fmt.Errorf("parts have numbers from 1 to %d", maxParts)
	case body.Size < 0 || body.Size > u.d.PartSize:
		return none, fmt.Errorf("it has %d bytes, and a part of this upload has up to %d", body.Size, u.d.PartSize)
	case int64(number-1) > (u.b.limits.Object-body.Size)/u.d.PartSize:
		return none, unix.EFBIG
	}
	data, err := u.openData(ctx, unix.LOCK_SH)
	if err != nil {
		return none, err
	}
	defer data.Close()
	records, err := u.open(recordsIn, unix.O_WRONLY|unix.O_APPEND)
	if err != nil {
		return none, err
	}
	defer records.Close()
	if err := u.forget(number, records); err != nil {
		return none, err
	}
	r, err := u.write(ctx, data, number, body)
	if err != nil {
		return none, err
	}
	if err := r.append(records); err != nil {
		return none, err
	}
	if err := records.Close(); err != nil {
		return none, err
	}
	u.mu.Lock()
	u.sure[number] = r
	u.mu.Unlock()
	return r, nil
}

// forget takes it down that a part is not there while it is being written, since
// it may be in place of another one.
func (u *upload) forget(number int, records *os.File) error {
	u.mu.Lock()
	delete(u.sure, number)
	u.mu.Unlock()
	return record{Part: archive.Part{Number: number}}.append(records)
}

// write copies a part to its place, and compares it with its checksum.
func (u *upload) write(ctx context.Context, data *os.File, number int, body archive.Body) (record, error) {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return record{}, fmt.Errorf("reading it: %w", err)
	}
	offset := int64(number-1) * u.d.PartSize
	digest, check := md5.New(), crc32.New(castagnoli)
	buffer := make([]byte, min(step, max(body.Size, 1)))
	for done := int64(0); done < body.Size; {
		if err := ctx.Err(); err != nil {
			return record{}, err
		}
		piece := buffer[:min(int64(len(buffer)), body.Size-done)]
		if _, err := io.ReadFull(body, piece); err != nil {
			return record{}, fmt.Errorf("reading it: %w", err)
		}
		digest.Write(piece)
		check.Write(piece)
		if _, err := data.WriteAt(piece, offset+done); err != nil {
			return record{}, err
		}
		done += int64(len(piece))
	}
	if check.Sum32() != body.CRC32C {
		return record{}, fmt.Errorf("its checksum is %08x and should be %08x: it has been damaged in memory", check.Sum32(), body.CRC32C)
	}
	if err := startWriting(data, offset, body.Size); err != nil {
		return record{}, err
	}
	tag := hex.EncodeToString(digest.Sum(nil))
	return record{archive.Part{Number: number, Size: body.Size, Tag: tag}, check.Sum32()}, nil
}

// records returns what is taken down.
func (u *upload) records() (map[int]record, error) {
	f, err := u.open(recordsIn, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, bad, err := readRecords(f)
	if bad > 0 {
		u.b.log.Debug("lines in the list of parts cannot be read", "upload", u.id, "key", u.d.Key, "lines", bad)
	}
	return all, err
}

// Parts returns what has been stored. Parts that were stored by another process are
// read and compared with their checksums: after a power cut not all that was
// written need be there.
func (u *upload) Parts(ctx context.Context) ([]archive.Part, error) {
	parts, err := u.parts(ctx)
	if err != nil {
		return nil, u.b.fail("looking at the parts of", u.d.Key, err)
	}
	return parts, nil
}

func (u *upload) parts(ctx context.Context) ([]archive.Part, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := u.open(dataIn, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	all, err := u.records()
	if err != nil {
		return nil, err
	}
	parts := []archive.Part{}
	for _, r := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ok, err := u.there(r, data)
		if err != nil {
			return nil, err
		}
		if ok {
			parts = append(parts, r.Part)
		}
	}
	slices.SortFunc(parts, func(a, z archive.Part) int { return a.Number - z.Number })
	return parts, nil
}

// there reports whether the data of a part are there.
func (u *upload) there(r record, data *os.File) (bool, error) {
	u.mu.Lock()
	known, ok := u.sure[r.Number]
	u.mu.Unlock()
	if ok && known == r {
		return true, nil
	}
	ok, err := r.same(data, u.d.PartSize)
	if err != nil {
		return false, err
	}
	if !ok {
		u.b.log.Warn("a part of an unfinished upload is not whole on the disk, and has to be stored again",
			"bucket", u.b.String(), "key", u.d.Key, "part", r.Number)
		return false, nil
	}
	u.mu.Lock()
	u.sure[r.Number] = r
	u.mu.Unlock()
	return true, nil
}

// Complete makes the object.
func (u *upload) Complete(ctx context.Context, parts []archive.Part) (archive.Object, error) {
	o, err := u.complete(ctx, parts)
	if err != nil {
		return archive.Object{}, u.b.fail("completing", u.d.Key, err)
	}
	return o, nil
}

func (u *upload) complete(ctx context.Context, parts []archive.Part) (archive.Object, error) {
	none := archive.Object{}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	data, err := u.openData(ctx, unix.LOCK_EX)
	if err != nil {
		return none, err
	}
	defer data.Close()
	size, err := u.compare(parts, data)
	if err != nil {
		return none, err
	}
	if err := u.vacant(); err != nil {
		return none, err
	}
	if err := data.Truncate(size); err != nil {
		return none, err
	}
	if err := retried(data.Sync); err != nil {
		return none, errors.Join(err, u.distrust())
	}
	var at unix.Stat_t
	if err := unix.Fstat(int(data.Fd()), &at); err != nil {
		return none, err
	}
	err = u.b.publish(u.path(dataIn), u.d.Key, true)
	if errors.Is(err, fs.ErrNotExist) {
		err = u.b.missing(archive.ErrNoUpload) // aborted by somebody
	}
	if err != nil {
		return none, err
	}
	if err := u.remove(); err != nil {
		u.b.log.Warn("what is left of a completed upload cannot be removed", "bucket", u.b.String(), "upload", u.id, "err", err)
	}
	return described(u.d.Key, at), nil
}

// distrust takes it that no part is there. What the kernel could not write it takes
// for written from then on, and the next attempt to synchronise succeeds.
func (u *upload) distrust() error {
	u.mu.Lock()
	clear(u.sure)
	u.mu.Unlock()
	records, err := u.open(recordsIn, unix.O_WRONLY|unix.O_TRUNC)
	if err != nil {
		return err
	}
	return records.Close()
}

// compare looks whether the parts are those that are stored, and make an object.
func (u *upload) compare(parts []archive.Part, data *os.File) (size int64, err error) {
	if len(parts) == 0 {
		return 0, errors.New("an object has one part at least")
	}
	all, err := u.records()
	if err != nil {
		return 0, err
	}
	for i, p := range parts {
		switch {
		case p.Number != i+1:
			return 0, fmt.Errorf("part %d is given in the place of part %d", p.Number, i+1)
		case i < len(parts)-1 && p.Size != u.d.PartSize:
			return 0, fmt.Errorf("part %d has %d bytes, and all but the last have to have %d", p.Number, p.Size, u.d.PartSize)
		case all[p.Number].Part != p:
			return 0, fmt.Errorf("part %d is not the one that was stored: %w", p.Number, archive.ErrNoUpload)
		}
		ok, err := u.there(all[p.Number], data)
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, fmt.Errorf("part %d is not what was stored: %w", p.Number, archive.ErrNoUpload)
		}
		size += p.Size
	}
	return size, nil
}

// vacant looks for an object before anything is done.
func (u *upload) vacant() error {
	dir, name, err := u.b.parent(u.d.Key, false)
	if err != nil {
		return nil // it will be made, or say why not
	}
	defer dir.Close()
	return inTheWay(dir, name)
}

// Abort drops the upload.
func (u *upload) Abort(context.Context) error {
	return u.b.fail("dropping the upload of", u.d.Key, u.remove())
}

// remove removes the files of the upload, and our folder if it was the last. The
// data go first: a folder without is no upload.
func (u *upload) remove() error {
	for _, name := range []string{dataIn, recordsIn, describedIn} {
		dir, name, err := u.b.parent(u.path(name), false)
		if absent(err) {
			return u.b.missing(nil)
		}
		if err != nil {
			return err
		}
		err = unix.Unlinkat(int(dir.Fd()), name, 0)
		_ = dir.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	u.b.prune(path.Dir(u.path(dataIn)))
	return nil
}
