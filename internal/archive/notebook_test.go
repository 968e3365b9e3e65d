package archive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/store"
)

// noteKeys are the keys of notes in a bucket.
func noteKeys(b *memoryBucket) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for key := range b.objects {
		if strings.Contains(key, ".buttersink-retention.") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// A listing passes over notes, wherever they are, and no snapshot takes their
// names.
func TestNotesAreNoSnapshots(t *testing.T) {
	b := newMemoryBucket()
	f := openOn(t, b, nil, nil)
	for _, s := range []*Store{f.Store, open(t, b, ""), open(t, b, "pre/fix/deeper")} {
		for name := range notebooks {
			if err := s.WriteNote(t.Context(), name, []byte("{}"), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, prefix := range []string{"", "pre/fix", "pre", "other"} {
		inv, err := open(t, b, prefix).List(t.Context())
		if err != nil || len(inv.Warnings) > 0 || len(inv.Snapshots) > 0 {
			t.Errorf("%q: %v, %+v", prefix, err, inv)
		}
	}
	// ButterSink takes for a stream what has one underscore in its last component.
	for _, key := range noteKeys(b) {
		if strings.Contains(key, "_") || !strings.HasSuffix(key, ".json") {
			t.Error(key)
		}
	}
	err := f.checkPath("a/.buttersink-retention.0000000001.json/b")
	if err == nil {
		t.Error("a snapshot may lie where a note is")
	}
	for key, want := range map[string]kind{
		".buttersink-retention.0000000001.json":           silent,
		"pre/fix/.buttersink-outstanding.0000000071.json": silent,
		".buttersink-retention.0000000000.json":           foreign,
		".buttersink-retention.00000000-1.json":           foreign,
		".buttersink-retention.json":                      foreign,
		".buttersink-retention.1.json":                    foreign,
		".buttersink-retention.0000000001":                foreign,
		".outstanding_transfers":                          foreign,
	} {
		if got := parseKey("", key).kind; got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
}

// What is out of date goes, and who was slow does not take its place.
func TestNoteNumbers(t *testing.T) {
	b := newMemoryBucket()
	f, slow := openOn(t, b, nil, nil), openOn(t, b, nil, nil)
	write := func(i int) {
		t.Helper()
		was, err := f.ReadNote(t.Context(), store.RetentionNote)
		if err == nil {
			err = f.WriteNote(t.Context(), store.RetentionNote, fmt.Appendf(nil, "%d", i), was)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		write(i)
	}
	if keys := noteKeys(b); len(keys) != notesKept || keys[notesKept-1] != "pre/fix/.buttersink-retention.0000000030.json" {
		t.Errorf("%q", keys)
	}
	for _, times := range []int{1, 5, notesKept, 2 * notesKept, 2*notesKept + 1} {
		write(1000)
		put := false
		b.step = func(_ context.Context, op, _ string) error {
			if op == "Put" && !put {
				put = true
				for i := range times {
					write(2000 + i)
				}
			}
			return nil
		}
		if err := slow.WriteNote(t.Context(), store.RetentionNote, []byte("slow"), []byte("1000")); !errors.Is(err, store.ErrNoteChanged) {
			t.Errorf("after %d others: %v", times, err)
		}
		b.step = nil
		want := fmt.Sprint(2000 + times - 1)
		for _, s := range []*fixture{f, slow} {
			if got, err := s.ReadNote(t.Context(), store.RetentionNote); err != nil || string(got) != want {
				t.Errorf("after %d others it says %q, want %q, %v", times, got, want, err)
			}
		}
		if keys := noteKeys(b); len(keys) > notesKept+1 {
			t.Errorf("%q", keys)
		}
	}
	// Others go on from what is written while it is being made sure of.
	lists := 0
	b.step = func(_ context.Context, op, _ string) error {
		if op == "List" {
			if lists++; lists == 2 {
				write(1)
			}
		}
		return nil
	}
	was, err := slow.ReadNote(t.Context(), store.RetentionNote)
	lists = 0
	if err == nil {
		err = slow.WriteNote(t.Context(), store.RetentionNote, []byte("mine"), was)
	}
	if err != nil {
		t.Error(err)
	}
}

// What a listing has not seen yet counts all the same.
func TestNoteListedLate(t *testing.T) {
	b := newMemoryBucket()
	f := openOn(t, b, nil, nil)
	was := []byte(nil)
	for i := range 3 {
		next := fmt.Appendf(nil, "%d", i)
		if err := f.WriteNote(t.Context(), store.RetentionNote, next, was); err != nil {
			t.Fatal(err)
		}
		was = next
	}
	late := openOn(t, b, nil, nil)
	late.bucket = lateBucket{b}
	if got, err := late.ReadNote(t.Context(), store.RetentionNote); err != nil || string(got) != "2" {
		t.Errorf("%q, %v", got, err)
	}
	if err := late.WriteNote(t.Context(), store.RetentionNote, []byte("3"), []byte("0")); !errors.Is(err, store.ErrNoteChanged) {
		t.Error(err)
	}
	if err := late.WriteNote(t.Context(), store.RetentionNote, []byte("3"), []byte("2")); err != nil {
		t.Error(err)
	}
	if got, err := f.ReadNote(t.Context(), store.RetentionNote); err != nil || string(got) != "3" {
		t.Errorf("%q, %v", got, err)
	}
}

// A bucket that has whatever it is asked for is given up.
func TestNotesWithoutEnd(t *testing.T) {
	b := newMemoryBucket()
	f := openOn(t, b, nil, nil)
	if err := f.WriteNote(t.Context(), store.RetentionNote, []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	asked := 0
	b.step = func(_ context.Context, op, key string) error {
		if op == "Get" && strings.Contains(key, ".buttersink-retention.") {
			if asked++; asked > 100_000 {
				t.Fatal("it has no end")
			}
			b.set(key, memoryObject{data: []byte("x")})
		}
		return nil
	}
	f.bucket = lateBucket{b}
	if got, err := f.ReadNote(t.Context(), store.RetentionNote); !store.Temporary(err) {
		t.Errorf("%q, %v", got, err)
	}
}

// lateBucket lists no more than the first object.
type lateBucket struct{ *memoryBucket }

func (b lateBucket) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for o, err := range b.memoryBucket.List(ctx, prefix) {
			yield(o, err)
			return
		}
	}
}

// A note is written like everything else: not beneath a disk that is not mounted,
// and not where somebody has put a number that none follows.
func TestNoteNowhere(t *testing.T) {
	b := newMemoryBucket()
	f := openOn(t, b, nil, nil)
	f.bucket = unmountedBucket{b}
	if err := f.WriteNote(t.Context(), store.RetentionNote, []byte("x"), nil); err == nil || !strings.Contains(err.Error(), "not mounted") {
		t.Error(err)
	}
	if got, err := f.ReadNote(t.Context(), store.RetentionNote); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
	f = openOn(t, b, nil, nil)
	b.set(f.noteKey(store.RetentionNote, lastNote), memoryObject{data: []byte("last")})
	if got, err := f.ReadNote(t.Context(), store.RetentionNote); err != nil || string(got) != "last" {
		t.Errorf("%q, %v", got, err)
	}
	if err := f.WriteNote(t.Context(), store.RetentionNote, []byte("x"), []byte("last")); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Error(err)
	}
	b.set(f.noteKey(store.RetentionNote, lastNote), memoryObject{data: make([]byte, store.MaxNote+1)})
	if got, err := f.ReadNote(t.Context(), store.RetentionNote); err == nil {
		t.Errorf("a note of %d bytes was read", len(got))
	}
}

type unmountedBucket struct{ *memoryBucket }

func (unmountedBucket) String() string { return "dir:///mnt/usb" }

// Every error of the bucket is told, and leaves the note as it was or as it was to
// be.
func TestNoteFaults(t *testing.T) {
	for _, op := range []string{"List", "Get", "Put"} {
		for nth := range 3 {
			b := newMemoryBucket()
			f := openOn(t, b, nil, nil)
			if err := f.WriteNote(t.Context(), store.RetentionNote, []byte("old"), nil); err != nil {
				t.Fatal(err)
			}
			count := 0
			b.hook = func(o, _ string) error {
				if o == op {
					if count++; count == nth+1 {
						return errors.New("a fault")
					}
				}
				return nil
			}
			err := f.WriteNote(t.Context(), store.RetentionNote, []byte("new"), []byte("old"))
			if (count > nth) != (err != nil) {
				t.Errorf("%s %d: %v", op, nth, err)
			}
			b.hook = nil
			got, readErr := f.ReadNote(t.Context(), store.RetentionNote)
			if readErr != nil || string(got) != "new" && (err == nil || string(got) != "old") {
				t.Errorf("%s %d: it says %q, %v", op, nth, got, readErr)
			}
		}
	}
	// That what is out of date stays is none.
	b := newMemoryBucket()
	f := openOn(t, b, nil, nil)
	b.hook = func(o, _ string) error {
		if o == "Delete" {
			return errors.New("a fault")
		}
		return nil
	}
	var was []byte
	for i := range 2 * notesKept {
		next := fmt.Appendf(nil, "%d", i)
		if err := f.WriteNote(t.Context(), store.RetentionNote, next, was); err != nil {
			t.Fatal(err)
		}
		was = next
	}
	if diff := cmp.Diff(2*notesKept, len(noteKeys(b))); diff != "" {
		t.Error(diff)
	}
}
