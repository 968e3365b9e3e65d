package glacier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/store"
)

// Catalogue remembers what is in a vault, as a vault itself tells that only hours
// after it was asked, and about yesterday.
type Catalogue interface {
	// Entries returns what is kept for a place, by name.
	Entries(place string) (map[string][]byte, error)
	// Entry returns what is kept under one name, and whether there is anything.
	Entry(place, name string) ([]byte, bool, error)
	// Enter keeps data under a name, in place of what was there. It is on the disk
	// when it returns.
	Enter(place, name string, data []byte) error
	// EnterNew does so if there is nothing under the name, and tells whether there was
	// not.
	EnterNew(place, name string, data []byte) (bool, error)
	// Strike removes what is kept under a name.
	Strike(place, name string) error
}

// inlineUploads is up to which length the content of what is stored in parts is kept
// in the catalogue, too; what is stored by Put always is. Of what an inventory alone
// tells of, so much is fetched when it is wanted, without waiting to be asked.
const inlineUploads = 64 << 10

// putMost is how long an object of Put may be.
const putMost = 1 << 20

// lookEvery is for how long the bucket believes that nothing has been thawed since
// it last asked.
const lookEvery = 10 * time.Second

// bucket is a vault as a bucket. The catalogue is read anew for every call, as
// other processes of this machine may change it.
type bucket struct {
	*Vault
	c     Catalogue
	place string

	mu     sync.Mutex
	known  bool      // the catalogue tells what is in the vault
	looked time.Time // when the vault's jobs were last looked at in vain
	filled time.Time // and when for small objects
	waits  error     // what that came to
}

// NewBucket returns a vault as a bucket of archives in our layout. It closes the
// vault when it is closed.
//
// An object is an archive whose description has the key. What is small is in the
// catalogue as a whole, and can be read at once; everything else is cold. A vault
// that was not made from here, or whose catalogue was lost, has to be asked for its
// inventory first: until that is there every call fails with *store.PendingError;
// but where it has never taken one, a vault that Make was called for is believed to
// be empty, until there is its first.
// Machines with catalogues of their own do not see what others store. What may have
// been stored twice, as a reply was lost or a run died, is found in a later inventory,
// and one of the two is deleted.
func NewBucket(v *Vault, c Catalogue) (archive.Bucket, error) {
	b := &bucket{Vault: v, c: c, place: v.Location()}
	v.mu.Lock()
	made, bare := v.made, v.bare
	v.mu.Unlock()
	if made {
		// What an earlier vault of this name held is not in this one.
		if err := b.forget(); err != nil {
			return nil, fmt.Errorf("making ready for %s: %w", v, err)
		}
		if err := b.enter(stateName, state{Known: true, Settled: true}); err != nil {
			return nil, fmt.Errorf("making ready for %s: %w", v, err)
		}
	}
	if bare {
		// As long as it is empty there is no inventory to wait for. What may be in it
		// all the same the first one tells.
		if _, err := b.enterNew(stateName, state{Known: true, After: v.now().UTC()}); err != nil {
			return nil, fmt.Errorf("making ready for %s: %w", v, err)
		}
	}
	return b, nil
}

// forget empties the catalogue. What the state is goes last: who dies before that
// leaves it to another run to begin anew.
func (b *bucket) forget() error {
	entries, err := b.c.Entries(b.place)
	if err != nil {
		return err
	}
	for name := range entries {
		if name == stateName {
			continue
		}
		if err := b.c.Strike(b.place, name); err != nil {
			return err
		}
	}
	return b.c.Strike(b.place, stateName)
}

// Limits says what fits into a bucket.
func (b *bucket) Limits() archive.Limits {
	return archive.Limits{Small: putMost, MinPart: minPart, MaxPart: maxPart, Parts: maxParts, Object: maxObject, PowersOfTwo: true}
}

// CheckKey says why there can be no object with a key.
func (b *bucket) CheckKey(key string) error { return checkKey(key) }

// wrap says what was being done when an error came.
func (b *bucket) wrap(doing, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in %s: %w", doing, key, b.Vault, err)
}

// List gives the objects whose keys begin with a prefix.
func (b *bucket) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		all, err := b.list(ctx, prefix)
		if err != nil {
			yield(archive.Object{}, fmt.Errorf("listing %s: %w", b.Vault, err))
			return
		}
		for _, o := range all {
			if !yield(o, nil) {
				return
			}
		}
	}
}

func (b *bucket) list(ctx context.Context, prefix string) ([]archive.Object, error) {
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	c, err := b.load()
	if err != nil {
		return nil, err
	}
	var (
		all  []archive.Object
		jobs map[string][]Job
	)
	for _, key := range slices.Sorted(maps.Keys(c.objects)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		e := c.objects[key]
		o := e.object(key)
		if o.Cold {
			if jobs == nil {
				if jobs, err = b.retrievals(ctx); err != nil {
					return nil, err
				}
			}
			if o.Cold, err = b.isCold(ctx, e.ID, jobs); err != nil {
				return nil, err
			}
		}
		all = append(all, o)
	}
	return all, nil
}

// isCold reports whether an archive cannot be read now.
func (b *bucket) isCold(ctx context.Context, id string, jobs map[string][]Job) (bool, error) {
	j, ok, err := b.current(ctx, jobs[id])
	if err != nil || !ok || j.Done.IsZero() {
		return true, err
	}
	b.remember(id, j)
	return false, nil
}

// Stat tells of one object.
func (b *bucket) Stat(ctx context.Context, key string) (archive.Object, error) {
	e, err := b.lookup(ctx, "looking at", key)
	if err != nil {
		return archive.Object{}, err
	}
	o := e.object(key)
	if o.Cold {
		b.mu.Lock()
		fresh := b.now().Sub(b.looked) < lookEvery && !b.now().Before(b.looked)
		b.mu.Unlock()
		if _, err := b.retrieved(ctx, e.ID, false, fresh); err == nil {
			o.Cold = false
		} else if !errors.Is(err, store.ErrCold) {
			return archive.Object{}, b.wrap("looking at", key, err)
		} else if !fresh {
			b.mu.Lock()
			b.looked = b.now()
			b.mu.Unlock()
		}
	}
	return o, nil
}

// lookup finds an object.
func (b *bucket) lookup(ctx context.Context, doing, key string) (*entry, error) {
	if err := b.ready(ctx); err != nil {
		return nil, b.wrap(doing, key, err)
	}
	if key == "" {
		return nil, b.wrap(doing, key, archive.ErrNoObject)
	}
	e, err := b.find(key)
	if err == nil && e == nil {
		err = archive.ErrNoObject
	}
	return e, b.wrap(doing, key, err)
}

// Get gives length bytes of an object from an offset on.
func (b *bucket) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length < 0 {
		return nil, b.wrap("reading", key, fmt.Errorf("%d bytes from %d on are no part of anything", length, offset))
	}
	e, err := b.lookup(ctx, "reading", key)
	if err != nil {
		return nil, err
	}
	if !e.readable() && e.Size <= inlineUploads {
		if e, err = b.fill(ctx, key); err != nil {
			return nil, b.wrap("reading", key, err)
		}
	}
	if e.readable() {
		from := min(offset, int64(len(e.Content)))
		return io.NopCloser(bytes.NewReader(e.Content[from:min(from+min(length, putMost), int64(len(e.Content)))])), nil
	}
	in, err := b.Vault.Get(ctx, e.ID, offset, length)
	if _, ok := errors.AsType[*archive.ColdError](err); ok {
		err = &archive.ColdError{Key: key, Class: Class}
	}
	return in, b.wrap("reading", key, err)
}

// Put makes a small object at once.
func (b *bucket) Put(ctx context.Context, key string, data []byte, once bool) error {
	return b.wrap("storing", key, b.put(ctx, key, data, once))
}

func (b *bucket) put(ctx context.Context, key string, data []byte, once bool) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	if len(data) > putMost {
		return fmt.Errorf("%d bytes are too many for one request", len(data))
	}
	if err := checkKey(key); err != nil {
		return fmt.Errorf("there can be no such key: %w", err)
	}
	have, err := b.find(key)
	if err != nil {
		return err
	}
	if once && have != nil {
		return archive.ErrTaken
	}
	body, empty := data, len(data) == 0
	if empty {
		body = []byte{0}
	}
	note, err := b.suspect(key, int64(len(body)), treeOf(body))
	if err != nil {
		return err
	}
	made, unsure, err := b.Vault.put(ctx, describe(key, empty), body)
	if err == nil {
		e := entryOf(made, empty)
		e.Inline, e.Content = true, data
		err = b.entered(ctx, key, have, e, once)
	}
	if unsure {
		return errors.Join(err, b.unsettle())
	}
	return errors.Join(err, b.c.Strike(b.place, note))
}

// entered writes down an object that has been stored by Put.
func (b *bucket) entered(ctx context.Context, key string, have, e *entry, once bool) error {
	if once {
		return b.enterOnce(ctx, key, e)
	}
	if have != nil {
		if err := b.enter(gonePrefix+have.ID, gone{When: b.now().UTC(), Owed: true}); err != nil {
			return err
		}
	}
	if err := b.enter(objectPrefix+escape(key), e); err != nil {
		return err
	}
	if have != nil {
		b.discard(ctx, have.ID)
	}
	return nil
}

// enterOnce writes down a new object. Where another one has come to the key it is
// that which stays.
func (b *bucket) enterOnce(ctx context.Context, key string, e *entry) error {
	entered, err := b.enterNew(objectPrefix+escape(key), e)
	if err != nil || entered {
		return err
	}
	other, err := b.find(key)
	if err != nil {
		return err
	}
	if other != nil && other.ID == e.ID {
		return nil
	}
	if err := b.enter(gonePrefix+e.ID, gone{When: b.now().UTC(), Owed: true}); err != nil {
		return err
	}
	b.discard(ctx, e.ID)
	return archive.ErrTaken
}

// discard deletes an archive that is no object any more, and has been written down
// as such. What does not work is left to another run.
func (b *bucket) discard(ctx context.Context, id string) {
	err := b.Vault.Delete(ctx, id)
	if err == nil {
		err = b.enter(gonePrefix+id, gone{When: b.now().UTC()})
	}
	if err != nil {
		b.log.Warn("an archive that has been replaced could not be deleted; another run tries again", "because", err)
	}
}

// Copy makes an object with the content of another one. A vault copies nothing, so
// that works only with what is in the catalogue.
func (b *bucket) Copy(ctx context.Context, from, to string) error {
	e, err := b.lookup(ctx, "copying", from)
	if err != nil || from == to {
		return err
	}
	if !e.readable() {
		return b.wrap("copying", from, &archive.ColdError{Key: from, Class: Class})
	}
	return b.Put(ctx, to, e.Content, false)
}

// Delete removes an object.
func (b *bucket) Delete(ctx context.Context, key string) error {
	e, err := b.lookup(ctx, "deleting", key)
	if errors.Is(err, archive.ErrNoObject) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := b.Vault.Delete(ctx, e.ID); err != nil {
		return b.wrap("deleting", key, err)
	}
	if err := b.enter(gonePrefix+e.ID, gone{When: b.now().UTC()}); err != nil {
		return b.wrap("deleting", key, err)
	}
	return b.wrap("deleting", key, b.c.Strike(b.place, objectPrefix+escape(key)))
}
