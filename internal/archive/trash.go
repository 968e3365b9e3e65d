package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// maxNumber is how many objects of one key the trash takes.
const maxNumber = 999

// trashKey is where an object goes that is removed. A later one with the same key
// is numbered from 2 on. Old versions of ButterSink take all that begins like
// this for trash.
func trashKey(key string, n int) string {
	t := trashFolder + "/" + key
	if n > 1 {
		t += "~" + strconv.Itoa(n)
	}
	return t
}

// trashed returns the key that an object in the trash had.
func trashed(handle string) (key string, ok bool) {
	key, ok = strings.CutPrefix(handle, trashFolder+"/")
	if i := strings.LastIndexByte(key, '~'); ok && i >= 0 {
		if n, err := strconv.Atoi(key[i+1:]); err == nil && trashKey(key[:i], n) == handle && n > 1 {
			return key[:i], true
		}
	}
	return key, ok
}

// toTrash moves an object to the trash, with its manifest if it is a stream. What
// is there is not overwritten, unless it is the same: then an earlier removal was
// interrupted, or the object was put back.
//
// The copies come first, so that whenever this ends nothing is lost; then the
// object goes, and last what describes it. What is not to be copied stays where it
// is, and gets a tombstone.
func (s *Store) toTrash(ctx context.Context, key string) error {
	o, err := s.bucket.Stat(ctx, key)
	if err != nil {
		return err
	}
	if o.Fixed {
		return s.bury(ctx, o)
	}
	handle, err := s.place(ctx, o)
	if err != nil {
		return err
	}
	if err := s.bucket.Copy(ctx, key, handle); errors.Is(err, store.ErrCold) {
		return s.bury(ctx, o) // it has gone there just now
	} else if err != nil {
		return fmt.Errorf("copying %s to the trash: %w", printable(key), err)
	}
	err = s.bucket.Copy(ctx, manifestKey(key), manifestKey(handle))
	described := err == nil
	if errors.Is(err, store.ErrCold) {
		s.log.Warn("the manifest of what is removed is in cold storage, and stays behind", "key", printable(manifestKey(key)), "error", err)
	} else if err != nil && !errors.Is(err, ErrNoObject) {
		return fmt.Errorf("copying the manifest of %s to the trash: %w", printable(key), err)
	}
	if there, err := s.bucket.Stat(ctx, handle); err != nil || there.Size != o.Size {
		return errors.Join(fmt.Errorf("copying %s to the trash: it is not there", printable(key)), err)
	}
	if err := s.bucket.Delete(ctx, key); err != nil {
		return fmt.Errorf("deleting %s: %w", printable(key), err)
	}
	if described {
		if err := s.bucket.Delete(ctx, manifestKey(key)); err != nil {
			s.log.Warn("the manifest of what was removed cannot be deleted, and stays behind", "key", printable(manifestKey(key)), "error", err)
		}
	}
	return nil
}

// place finds the key in the trash for an object.
func (s *Store) place(ctx context.Context, o Object) (string, error) {
	for n := 1; n <= maxNumber; n++ {
		handle := trashKey(o.Key, n)
		there, err := s.bucket.Stat(ctx, handle)
		if errors.Is(err, ErrNoObject) {
			return handle, nil
		}
		if err != nil {
			return "", fmt.Errorf("looking for room in the trash: %w", err)
		}
		same, err := s.same(ctx, o, there)
		if err != nil {
			return "", fmt.Errorf("looking for room in the trash: %w", err)
		}
		if same {
			return handle, nil
		}
	}
	return "", fmt.Errorf("there are %d of %s in the trash: empty it", maxNumber, printable(o.Key))
}

// same reports whether it is known that two objects have the same content. Tags
// of S3 may differ where the contents do not.
func (s *Store) same(ctx context.Context, a, b Object) (bool, error) {
	if a.Size != b.Size {
		return false, nil
	}
	if a.Tag != "" && a.Tag == b.Tag {
		return true, nil
	}
	var sums [2]Hash
	for i, o := range []Object{a, b} {
		text, err := s.small(ctx, manifestKey(o.Key), maxManifest)
		if errors.Is(err, ErrNoObject) || errors.Is(err, store.ErrCold) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		m, err := parseManifest(text)
		if err != nil || m.Object.Bytes != o.Size {
			return false, nil
		}
		sums[i] = m.Object.SHA256
	}
	return sums[0] == sums[1] && !sums[0].IsZero(), nil
}

// trashPrefixes are what the keys begin with of what was below the prefix.
func (s *Store) trashPrefixes(rel string) []string {
	all := []string{trashKey(below(s.o.Prefix, rel), 1)}
	if slashed := s.slashed(); slashed != "" {
		all = append(all, trashKey(slashed+rel, 1))
	}
	return all
}

// Trashed returns what has been removed from the archive, the oldest first.
func (s *Store) Trashed(ctx context.Context) ([]store.Trashed, error) {
	all, err := s.allBuried(ctx)
	if err != nil {
		return nil, err
	}
	for o, err := range s.inTrash(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("listing the trash of %s: %w", s, err)
		}
		all = append(all, store.Trashed{
			Stored: snapshot.Stored{Edge: o.Edge, Size: snapshot.ExactSize(o.Size)},
			Path:   o.Path, When: o.Modified, Handle: strings.Clone(o.Key), Class: strings.Clone(o.Class), Since: o.Modified,
		})
	}
	slices.SortFunc(all, func(a, b store.Trashed) int {
		return cmp.Or(a.When.Compare(b.When), strings.Compare(a.Handle, b.Handle))
	})
	return all, nil
}

// inTrash gives the streams in the trash whose paths begin with rel, under the
// keys that they have there.
func (s *Store) inTrash(ctx context.Context, rel string) func(yield func(*stored, error) bool) {
	return func(yield func(*stored, error) bool) {
		for _, prefix := range s.trashPrefixes(rel) {
			for o, err := range s.bucket.List(ctx, prefix) {
				if err != nil {
					if !denied(err) || prefix != trashKey(s.slashed()+rel, 1) {
						yield(nil, err)
						return
					}
					break
				}
				key, _ := trashed(o.Key)
				n := parseKey(s.o.Prefix, key)
				if n.kind != isObject || o.Size <= 0 {
					continue
				}
				if !yield(&stored{Object: o, Edge: n.edge, Path: n.path, Form: n.form}, nil) {
					return
				}
			}
		}
	}
}

// original checks that a handle is that of a stream in our trash folder, and
// returns the key that it had.
func (s *Store) original(handle string) (key string, n named, err error) {
	key, ok := trashed(handle)
	if n = parseKey(s.o.Prefix, key); !ok || n.kind != isObject {
		return "", n, fmt.Errorf("%s is not in the trash of %s: %w", printable(handle), s, store.ErrNotFound)
	}
	return key, n, nil
}

// Untrash puts a stream back where it was, with what describes it.
func (s *Store) Untrash(ctx context.Context, t store.Trashed) error {
	if n, ok := s.inPlace(t.Handle); ok {
		return s.untrashBuried(ctx, t.Handle, n)
	}
	key, n, err := s.original(t.Handle)
	if err != nil {
		return err
	}
	if _, err := s.marked(ctx); err != nil {
		return err
	}
	if err := s.putBack(ctx, t.Handle, key, n); err != nil {
		return err
	}
	return s.Discard(ctx, t)
}

// putBack copies a stream out of the trash, and leaves it there too: who removes
// at the same time may rely on what is there.
func (s *Store) putBack(ctx context.Context, handle, key string, n named) error {
	switch _, err := s.bucket.Stat(ctx, key); {
	case err == nil:
		return &store.ExistsError{Path: printable(key), What: "another one that is there"}
	case !errors.Is(err, ErrNoObject):
		return fmt.Errorf("putting back %s: %w", printable(key), err)
	}
	o, err := s.bucket.Stat(ctx, handle)
	if err == nil {
		err = s.bucket.Copy(ctx, handle, key)
	}
	if errors.Is(err, ErrNoObject) {
		err = fmt.Errorf("it is not in the trash any more: %w", store.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("putting back %s: %w", printable(key), err)
	}
	err = s.bucket.Copy(ctx, manifestKey(handle), manifestKey(key))
	described := err == nil
	if errors.Is(err, ErrNoObject) {
		// One that was left there would be about another object.
		err = s.bucket.Delete(ctx, manifestKey(key))
	}
	if err != nil {
		return fmt.Errorf("putting back the manifest of %s: %w", printable(key), err)
	}
	s.sizesBack(ctx, n.path)
	o.Key = key
	s.add(&stored{Object: o, Edge: n.edge, Path: n.path, Form: n.form, Described: described})
	return nil
}

// sizesBack puts the noted sizes of a snapshot back, where there are none.
func (s *Store) sizesBack(ctx context.Context, path string) {
	sizes := sizesKey(s.o.Prefix, path)
	if _, err := s.bucket.Stat(ctx, sizes); errors.Is(err, ErrNoObject) {
		if err := s.bucket.Copy(ctx, trashKey(sizes, 1), sizes); err != nil && !errors.Is(err, ErrNoObject) {
			s.log.Warn("the noted sizes of a snapshot cannot be put back", "key", sizes, "error", err)
		}
	}
}

// Discard removes a stream for good, and with the last one of its path in the
// trash the sizes that were noted. Of what has not been copied, it removes nothing
// that a snapshot needs which is there.
func (s *Store) Discard(ctx context.Context, t store.Trashed) error {
	if n, ok := s.inPlace(t.Handle); ok {
		return s.discardBuried(ctx, t.Handle, n)
	}
	_, n, err := s.original(t.Handle)
	if err != nil {
		return err
	}
	if _, err := s.marked(ctx); err != nil {
		return err
	}
	for _, key := range []string{t.Handle, manifestKey(t.Handle)} {
		if err := s.bucket.Delete(ctx, key); err != nil {
			return fmt.Errorf("removing %s for good: %w", printable(key), err)
		}
	}
	return s.discardSizes(ctx, n.path)
}

// discardSizes removes the noted sizes of a snapshot from the trash, if no stream
// of its path is there any more.
func (s *Store) discardSizes(ctx context.Context, path string) error {
	for o, err := range s.inTrash(ctx, snapshot.EscapePath(path)+"/") {
		if err != nil {
			return fmt.Errorf("listing the trash of %s: %w", s, err)
		}
		if o.Path == path {
			return nil // there is another one
		}
	}
	// Asked for by name: a listing could be one of all that lies beside them. The
	// last one goes first, so that none is hidden behind a gap.
	var noted []string
	for i := 1; i <= maxNumber; i++ {
		key := trashKey(sizesKey(s.o.Prefix, path), i)
		_, err := s.bucket.Stat(ctx, key)
		if errors.Is(err, ErrNoObject) {
			break
		}
		if err != nil {
			return fmt.Errorf("looking for noted sizes in the trash of %s: %w", s, err)
		}
		noted = append(noted, key)
	}
	for _, key := range slices.Backward(noted) {
		if err := s.bucket.Delete(ctx, key); err != nil {
			return fmt.Errorf("removing %s for good: %w", printable(key), err)
		}
	}
	return nil
}
