package job

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

func TestHold(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1, 2, 3, 4)
	days(m.Add, "sub/", 5, 6)
	now := someDay
	e := &Engine{Now: func() time.Time { return now }}
	first, err := e.Hold(t.Context(), m, "/"+day("", 1)+"/", "before the upgrade")
	if err != nil || first.ID != storetest.IDOf("home", 1) || first.Path != day("", 1) || first.Why != "before the upgrade" || !first.Since.Equal(now) {
		t.Fatalf("%+v, %v", first, err)
	}
	now = now.Add(time.Hour)
	if _, err := e.Hold(t.Context(), m, day("sub/", 5), ""); err != nil {
		t.Fatal(err)
	}
	again, err := e.Hold(t.Context(), m, day("", 1), "for good")
	if err != nil || !again.Since.Equal(first.Since) || again.Why != "for good" {
		t.Errorf("%+v, %v", again, err)
	}
	all, err := e.Holds(t.Context(), m)
	if err != nil || len(all) != 2 || all[0] != again || all[1].Path != day("sub/", 5) {
		t.Errorf("%+v, %v", all, err)
	}
	r, err := e.Prune(t.Context(), m, PruneOptions{Rules: last(1), Force: true})
	if err != nil {
		t.Fatal(err)
	}
	got := reasons(r.Verdicts)
	if got[day("", 1)] != "held since 2026-11-21: for good" || got[day("sub/", 5)] != "held since 2026-11-21" || len(held(t, m)) != 4 {
		t.Errorf("%q\n%v", held(t, m), got)
	}

	if h, err := e.Release(t.Context(), m, day("", 1)); err != nil || h != again {
		t.Errorf("%+v, %v", h, err)
	}
	// What is not there any more is released by the path that it had.
	for _, s := range inventory(t, m).Inside() {
		if s.Path == day("sub/", 5) {
			if err := m.Remove(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if h, err := e.Release(t.Context(), m, day("sub/", 5)); err != nil || h.Path != day("sub/", 5) {
		t.Errorf("%+v, %v", h, err)
	}
	if note := m.Note(store.RetentionNote); strings.Contains(string(note), "holds") {
		t.Errorf("%s", note)
	}
}

func TestHoldFails(t *testing.T) {
	m := storetest.NewMemory("m")
	days(m.Add, "", 1)
	m.AddOutside("home", 2, "/outside")
	e := &Engine{}
	for name, do := range map[string]func() error{
		"no such path": func() error { _, err := e.Hold(t.Context(), m, day("", 2), ""); return err },
		"outside":      func() error { _, err := e.Hold(t.Context(), m, "/outside", ""); return err },
		"not held":     func() error { _, err := e.Release(t.Context(), m, day("", 1)); return err },
		"nothing":      func() error { _, err := e.Release(t.Context(), m, ""); return err },
	} {
		if err := do(); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := e.Hold(t.Context(), noteless{m}, day("", 1), "")
	if u, ok := errors.AsType[*UnableError](err); !ok || !strings.Contains(u.Error(), "memory m cannot note") {
		t.Error(err)
	}
	if note := m.Note(store.RetentionNote); len(note) > 0 {
		t.Errorf("%s", note)
	}
	if all, err := e.Holds(t.Context(), noteless{m}); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestSyncDeleteHolds asserts that what is held stays where a sync would remove it.
func TestSyncDeleteHolds(t *testing.T) {
	src, dst := storetest.NewMemory("src"), storetest.NewMemory("dst")
	src.Add("home", 3, "c")
	for i, name := range []string{"a", "b", "c"} {
		dst.AddReceived("home", uint64(i+1), name)
	}
	e := &Engine{}
	if _, err := e.Hold(t.Context(), dst, "a", "as a keepsake"); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		r, err := e.Sync(t.Context(), src, dst, SyncOptions{Delete: true, DryRun: dry})
		if err != nil || len(r.Outlook.Remove) != 1 || r.Outlook.Remove[0].Path != "b" {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if diff := cmp.Diff([]string{"a", "c"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
	// A note that cannot be read may hold anything.
	dst.AddReceived("home", 9, "d")
	dst.SetNote(store.RetentionNote, []byte("?"))
	if _, err := e.Sync(t.Context(), src, dst, SyncOptions{Delete: true}); err == nil {
		t.Error("something was removed without knowing what is held")
	}
	if diff := cmp.Diff([]string{"a", "c", "d"}, held(t, dst)); diff != "" {
		t.Error(diff)
	}
}
