package snapshot

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const text = "ea7c1d34-c782-584b-8144-845760163ea1"

func mustID(t testing.TB, s string) ID {
	t.Helper()
	id, err := ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestIDText(t *testing.T) {
	id := mustID(t, text)
	if got := id.String(); got != text {
		t.Errorf("String() = %s, want %s", got, text)
	}
	if got := id.Short(); got != "ea7c...3ea1" {
		t.Errorf("Short() = %s", got)
	}
	if id[0] != 0xea || id[15] != 0xa1 {
		t.Errorf("bytes are not in on-disk order: %x", id[:])
	}
	if upper := mustID(t, "EA7C1D34-C782-584B-8144-845760163EA1"); upper != id {
		t.Error("upper case names another ID")
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "None", text[1:], text + "0", "ea7c1d34c782584b8144845760163ea1",
		"ea7c1d34-c782-584b-8144_845760163ea1", "ga7c1d34-c782-584b-8144-845760163ea1", "ea7c1d3-4c782-584b-8144-845760163ea1",
	} {
		if id, err := ParseID(bad); !errors.Is(err, ErrID) || !id.IsZero() {
			t.Errorf("ParseID(%q) = %v, %v; want ErrID", bad, id, err)
		}
	}
}

func TestIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var id ID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		raw, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		var back ID
		if err := json.Unmarshal(raw, &back); err != nil || back != id {
			t.Fatalf("%s came back as %v, %v", raw, back, err)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add(text)
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && len(s) != len(id.String()) {
			t.Errorf("ParseID(%q) = %v", s, id)
		}
	})
}

func TestIsPart(t *testing.T) {
	for name, want := range map[string]bool{
		"A.part": true, "x/A_2026-11-20T23:05:45.498000.part": true, "A": false, "A.part/b": false, "party": false,
	} {
		if got := IsPart(name); got != want {
			t.Errorf("IsPart(%q) = %v", name, got)
		}
	}
}

func TestInventory(t *testing.T) {
	a, b := ID{1}, ID{2}
	inv := &Inventory{Dir: "/mnt/snaps", Snapshots: []Snapshot{
		{ID: b, Path: "z"}, {ID: a, Path: "/elsewhere/a", Outside: true}, {ID: ID{3}, Path: "sub/y"},
	}}
	if s, ok := inv.Find(a); !ok || inv.Where(s) != "/elsewhere/a" {
		t.Errorf("Find(a) = %+v, %v", s, ok)
	}
	if s, ok := inv.Find(b); !ok || inv.Where(s) != "/mnt/snaps/z" {
		t.Errorf("Find(b) = %+v, %v", s, ok)
	}
	if _, ok := inv.Find(ID{9}); ok {
		t.Error("found what is not there")
	}
	inv.SetTrust(b, Touched)
	if s, _ := inv.Find(b); s.Trust != Touched {
		t.Error("SetTrust is not seen by Find")
	}
	inv.Snapshots = append(inv.Snapshots, Snapshot{ID: ID{4}, Path: "new"})
	if _, ok := inv.Find(ID{4}); !ok {
		t.Error("an added snapshot is not found")
	}
	twins := &Inventory{Snapshots: []Snapshot{{ID: a, Path: "x", Copies: []Snapshot{{ID: a, Path: "y"}, {ID: a, Path: "/z", Outside: true}}}}}
	twins.Prefer(a, "/z")
	twins.Prefer(a, "nosuch")
	if got := twins.Snapshots[0].Path; got != "x" {
		t.Errorf("Prefer took %q", got)
	}
	twins.Prefer(a, "y")
	want := []Snapshot{{ID: a, Path: "y", Copies: []Snapshot{{ID: a, Path: "x"}, {ID: a, Path: "/z", Outside: true}}}}
	if diff := cmp.Diff(want, twins.Snapshots); diff != "" {
		t.Error(diff)
	}
	var inside []string
	for _, s := range inv.Inside() {
		inside = append(inside, s.Path)
	}
	if diff := cmp.Diff([]string{"new", "sub/y", "z"}, inside); diff != "" {
		t.Error(diff)
	}
}
