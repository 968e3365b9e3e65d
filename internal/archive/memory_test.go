package archive

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// memoryBucket is a bucket in memory. Like S3, it gives objects that were made of
// parts another kind of tag than others.
type memoryBucket struct {
	limits Limits
	page   int // keys that a listing holds at a time
	// hook, if set, is called before each call and, for listings, before each
	// page; its error is that of the call.
	hook func(op, key string) error
	// step, if set, is called before that, and may wait.
	step func(ctx context.Context, op, key string) error

	mu      sync.Mutex
	clock   time.Time
	objects map[string]memoryObject
	keys    []string // of objects, in order; nil if that is not known
	uploads map[string]*memoryUpload
	number  int
	class   string         // where streams are kept that are not known to be small
	asked   map[string]int // how often an object was thawed
	calls   map[string]int
	closed  bool
}

type memoryObject struct {
	data     []byte
	size     int64 // if there is no data
	modified time.Time
	tag      string
	class    string
	cold     bool
	fixed    bool
	// What is cold can be read in between.
	ready, until time.Time
}

type memoryUpload struct {
	b     *memoryBucket
	u     Unfinished
	parts map[int]memoryPart
	class string
}

type memoryPart struct {
	data []byte
	tag  string
}

var _ Bucket = (*memoryBucket)(nil)

func newMemoryBucket() *memoryBucket {
	return &memoryBucket{
		limits:  Limits{Small: 1 << 20, MinPart: 1, MaxPart: 5 << 30, Parts: 10_000, Object: 5 << 40},
		page:    1000,
		clock:   time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
		objects: map[string]memoryObject{},
		uploads: map[string]*memoryUpload{},
		calls:   map[string]int{},
	}
}

func (b *memoryBucket) String() string   { return "mem://bucket" }
func (b *memoryBucket) Location() string { return fmt.Sprintf("mem:%p", b) }
func (b *memoryBucket) Limits() Limits   { return b.limits }

func (b *memoryBucket) CheckKey(key string) error {
	if key == "" || len(key) > 1024 {
		return errors.New("it is empty or has more than 1024 bytes")
	}
	return nil
}

func (b *memoryBucket) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// begin counts a call and asks the hook.
func (b *memoryBucket) begin(ctx context.Context, op, key string) error {
	b.mu.Lock()
	b.calls[op]++
	hook, step := b.hook, b.step
	b.mu.Unlock()
	if step != nil {
		if err := step(ctx, op, key); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if hook != nil {
		return hook(op, key)
	}
	return nil
}

// tick is the time of a change: each has its own.
func (b *memoryBucket) tick() time.Time {
	b.clock = b.clock.Add(time.Second)
	return b.clock
}

func (b *memoryBucket) set(key string, o memoryObject) {
	if _, there := b.objects[key]; !there {
		b.keys = nil
	}
	o.modified = b.tick()
	b.objects[key] = o
}

// isCold reports whether an object cannot be read at a time.
func (o memoryObject) isCold(now time.Time) bool {
	return o.cold && (o.ready.IsZero() || now.Before(o.ready) || !now.Before(o.until))
}

func (o memoryObject) object(key string, now time.Time) Object {
	size := o.size
	if o.data != nil {
		size = int64(len(o.data))
	}
	return Object{Key: key, Size: size, Modified: o.modified, Tag: o.tag, Class: o.class, Cold: o.isCold(now), Fixed: o.fixed}
}

// List holds one page at a time, and like S3 lists on from the last key of it.
func (b *memoryBucket) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for after, more := "", true; more; {
			if err := b.begin(ctx, "List", prefix); err != nil {
				yield(Object{}, err)
				return
			}
			b.mu.Lock()
			if b.keys == nil {
				b.keys = slices.Sorted(maps.Keys(b.objects))
			}
			at, _ := slices.BinarySearch(b.keys, max(prefix, after))
			var page []Object
			for ; at < len(b.keys) && len(page) < b.page && strings.HasPrefix(b.keys[at], prefix); at++ {
				if key := b.keys[at]; key > after {
					page = append(page, b.objects[key].object(key, b.clock))
				}
			}
			b.mu.Unlock()
			more = len(page) == b.page
			for _, o := range page {
				if !yield(o, nil) {
					return
				}
				after = o.Key
			}
		}
	}
}

func (b *memoryBucket) Stat(ctx context.Context, key string) (Object, error) {
	if err := b.begin(ctx, "Stat", key); err != nil {
		return Object{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	if !ok {
		return Object{}, fmt.Errorf("asking for %s: %w", key, ErrNoObject)
	}
	return o.object(key, b.clock), nil
}

func (b *memoryBucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := b.begin(ctx, "Get", key); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	if !ok {
		return nil, fmt.Errorf("reading %s: %w", key, ErrNoObject)
	}
	if o.isCold(b.clock) {
		return nil, &ColdError{Key: key, Class: o.class}
	}
	from := min(max(offset, 0), int64(len(o.data)))
	end := min(from+max(length, 0), int64(len(o.data)))
	return io.NopCloser(bytes.NewReader(o.data[from:end])), nil
}

func (b *memoryBucket) Put(ctx context.Context, key string, data []byte, once bool) error {
	if err := b.begin(ctx, "Put", key); err != nil {
		return err
	}
	if int64(len(data)) > b.limits.Small {
		return errors.New("it is too long for a small object")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, taken := b.objects[key]; taken && once {
		return fmt.Errorf("storing %s: %w", key, ErrTaken)
	}
	b.set(key, memoryObject{data: append([]byte{}, data...), tag: md5Hex(data)})
	return nil
}

func (b *memoryBucket) Copy(ctx context.Context, from, to string) error {
	if err := b.begin(ctx, "Copy", from); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[from]
	if !ok {
		return fmt.Errorf("copying %s: %w", from, ErrNoObject)
	}
	if o.isCold(b.clock) {
		return &ColdError{Key: from, Class: o.class}
	}
	b.set(to, memoryObject{data: o.data, size: o.size, tag: md5Hex(o.data)})
	return nil
}

func (b *memoryBucket) Delete(ctx context.Context, key string) error {
	if err := b.begin(ctx, "Delete", key); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, there := b.objects[key]; there {
		delete(b.objects, key)
		b.keys = nil
	}
	return nil
}

func (b *memoryBucket) Begin(ctx context.Context, key string, o UploadOptions) (Upload, error) {
	if err := b.begin(ctx, "Begin", key); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.number++
	u := &memoryUpload{b: b, u: Unfinished{Key: key, ID: fmt.Sprintf("upload-%d", b.number), Begun: b.tick()}, parts: map[int]memoryPart{}}
	if b.class != "" && !(o.Size > 0 && o.Size < coldSmall) {
		u.class = b.class
	}
	b.uploads[u.u.ID] = u
	return u, nil
}

func (b *memoryBucket) Uploads(ctx context.Context, prefix string) iter.Seq2[Unfinished, error] {
	return func(yield func(Unfinished, error) bool) {
		if err := b.begin(ctx, "Uploads", prefix); err != nil {
			yield(Unfinished{}, err)
			return
		}
		b.mu.Lock()
		var all []Unfinished
		for _, u := range b.uploads {
			if strings.HasPrefix(u.u.Key, prefix) {
				all = append(all, u.u)
			}
		}
		b.mu.Unlock()
		slices.SortFunc(all, func(u, v Unfinished) int { return u.Begun.Compare(v.Begun) })
		for _, u := range all {
			if !yield(u, nil) {
				return
			}
		}
	}
}

func (b *memoryBucket) Continue(ctx context.Context, u Unfinished) (Upload, error) {
	if err := b.begin(ctx, "Continue", u.Key); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if there := b.uploads[u.ID]; there != nil && there.u.Key == u.Key {
		return there, nil
	}
	return nil, fmt.Errorf("carrying on with %s: %w", u.Key, ErrNoUpload)
}

func (u *memoryUpload) Unfinished() Unfinished { return u.u }

func (u *memoryUpload) Parts(ctx context.Context) ([]Part, error) {
	if err := u.b.begin(ctx, "Parts", u.u.Key); err != nil {
		return nil, err
	}
	u.b.mu.Lock()
	defer u.b.mu.Unlock()
	if u.b.uploads[u.u.ID] != u {
		return nil, ErrNoUpload
	}
	var all []Part
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		all = append(all, Part{Number: n, Size: int64(len(u.parts[n].data)), Tag: u.parts[n].tag})
	}
	return all, nil
}

func (u *memoryUpload) Put(ctx context.Context, number int, body Body) (Part, error) {
	if err := u.b.begin(ctx, "Part", u.u.Key); err != nil {
		return Part{}, err
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return Part{}, err
	}
	if int64(len(data)) != body.Size || crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) != body.CRC32C {
		return Part{}, fmt.Errorf("part %d of %s is not what was announced", number, u.u.Key)
	}
	u.b.mu.Lock()
	defer u.b.mu.Unlock()
	if u.b.uploads[u.u.ID] != u {
		return Part{}, ErrNoUpload
	}
	if number < 1 || number > u.b.limits.Parts {
		return Part{}, fmt.Errorf("there is no part %d", number)
	}
	u.parts[number] = memoryPart{data, md5Hex(data)}
	return Part{Number: number, Size: int64(len(data)), Tag: md5Hex(data)}, nil
}

func (u *memoryUpload) Complete(ctx context.Context, parts []Part) (Object, error) {
	if err := u.b.begin(ctx, "Complete", u.u.Key); err != nil {
		return Object{}, err
	}
	b := u.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.uploads[u.u.ID] != u {
		return Object{}, fmt.Errorf("completing %s: %w", u.u.Key, ErrNoUpload)
	}
	if _, taken := b.objects[u.u.Key]; taken {
		return Object{}, fmt.Errorf("completing %s: %w", u.u.Key, ErrTaken)
	}
	var data, sums []byte
	for i, p := range parts {
		there, ok := u.parts[p.Number]
		if !ok || there.tag != p.Tag || i > 0 && parts[i-1].Number >= p.Number {
			return Object{}, fmt.Errorf("completing %s: part %d: %w", u.u.Key, p.Number, ErrNoUpload)
		}
		if i < len(parts)-1 && int64(len(there.data)) < b.limits.MinPart {
			return Object{}, fmt.Errorf("completing %s: part %d is too short", u.u.Key, p.Number)
		}
		data = append(data, there.data...)
		sum := md5.Sum(there.data)
		sums = append(sums, sum[:]...)
	}
	delete(b.uploads, u.u.ID)
	b.set(u.u.Key, inClass(memoryObject{data: append([]byte{}, data...), tag: fmt.Sprintf("%s-%d", md5Hex(sums), len(parts))}, u.class))
	return b.objects[u.u.Key].object(u.u.Key, b.clock), nil
}

func (u *memoryUpload) Abort(ctx context.Context) error {
	if err := u.b.begin(ctx, "Abort", u.u.Key); err != nil {
		return err
	}
	u.b.mu.Lock()
	defer u.b.mu.Unlock()
	delete(u.b.uploads, u.u.ID)
	return nil
}

func md5Hex(data []byte) string {
	sum := md5.Sum(data)
	return hex.EncodeToString(sum[:])
}
