package bare

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// What btrfs-progs 6.2 print.
const (
	listed = `ID 256 gen 10 cgen 8 parent 5 top level 5 parent_uuid -                                    received_uuid -                                    uuid 0c5627a6-242b-ab44-89e2-a64612c96e53 path live
ID 257 gen 8 cgen 8 parent 5 top level 5 parent_uuid 0c5627a6-242b-ab44-89e2-a64612c96e53 received_uuid -                                    uuid 38531200-a69b-d04c-9c2a-deee0227ba35 path store/a
ID 259 gen 10 cgen 10 parent 5 top level 5 parent_uuid 0c5627a6-242b-ab44-89e2-a64612c96e53 received_uuid -                                    uuid 61671fad-998b-d343-94d3-8579aa142cd8 path  lead trail 
ID 260 gen 13 cgen 11 parent 5 top level 5 parent_uuid -                                    received_uuid 38531200-a69b-d04c-9c2a-deee0227ba35 uuid e368dfc5-e82b-f94b-bab9-25c825889f90 path recv/a
`
	listedReadOnly = "ID 257 gen 8 top level 5 path store/a\nID 259 gen 10 top level 5 path  lead trail \nID 260 gen 13 top level 5 path recv/a\n"

	showed = `recv/a
	Name: 			a
	UUID: 			e368dfc5-e82b-f94b-bab9-25c825889f90
	Parent UUID: 		-
	Received UUID: 		38531200-a69b-d04c-9c2a-deee0227ba35
	Creation time: 		2026-11-21 17:20:12 +0000
	Subvolume ID: 		260
	Generation: 		13
	Gen at creation: 	11
	Parent ID: 		5
	Top level ID: 		5
	Flags: 			readonly
	Send transid: 		8
	Send time: 		2026-11-21 17:20:12 +0000
	Receive transid: 	11
	Receive time: 		2026-11-21 17:20:12 +0000
	Snapshot(s):
				recv/b
	UUID: 			00000000-0000-0000-0000-000000000000
`
)

func id(t testing.TB, text string) snapshot.ID {
	t.Helper()
	v, err := snapshot.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestParse(t *testing.T) {
	all, err := parseFull(listed, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := all[2].path; got != " lead trail " {
		t.Errorf("a path is %q", got)
	}
	want := subvolume{
		id: 260, cgen: 11, top: 5, path: "recv/a",
		uuid: id(t, "e368dfc5-e82b-f94b-bab9-25c825889f90"), received: id(t, "38531200-a69b-d04c-9c2a-deee0227ba35"),
	}
	if len(all) != 4 || all[3] != want {
		t.Errorf("the last of %d is %+v, want %+v", len(all), all[3], want)
	}
	frozen, err := parseReadOnly(listedReadOnly, nil)
	if diff := cmp.Diff(map[uint64]string{257: "store/a", 259: " lead trail ", 260: "recv/a"}, frozen); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if all, err := parseFull("", nil); err != nil || len(all) != 0 {
		t.Errorf("of nothing: %v, %v", all, err)
	}
}

func TestParseRefuses(t *testing.T) {
	line := strings.SplitAfter(listed, "\n")
	for name, text := range map[string]string{
		"a name with a newline":   line[0] + line[1] + "more of it\n" + line[2],
		"what passes for another": line[0] + line[3] + line[2],
		"twice":                   line[0] + line[0],
	} {
		if all, err := parseFull(text, nil); !errors.Is(err, errAmbiguous) {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
	}
	for name, text := range map[string]string{
		"cut in a path": strings.TrimSuffix(listed, "\n"), "something else": "ERROR: no\n", "another listing": listedReadOnly,
	} {
		if all, err := parseFull(text, nil); err == nil {
			t.Errorf("%s: %+v", name, all)
		}
	}
	// With paths that were asked for, the text has to agree.
	if _, err := parseReadOnly("ID 257 gen 8 top level 5 path a\nb\n", map[uint64]string{257: "a"}); !errors.Is(err, errMoving) {
		t.Errorf("a path that is only the beginning: %v", err)
	}
	if _, err := parseReadOnly("ID 257 gen 8 top level 5 path a\n", nil); err != nil {
		t.Error(err)
	}
}

func TestParseShow(t *testing.T) {
	want := details{
		id: 260, cgen: 11, transid: 8, readOnly: true,
		uuid: id(t, "e368dfc5-e82b-f94b-bab9-25c825889f90"), received: id(t, "38531200-a69b-d04c-9c2a-deee0227ba35"),
	}
	for _, p := range []string{"recv/a", "elsewhere/a"} {
		if d, err := parseShow(showed, p); err != nil || d != want {
			t.Errorf("%s: %+v, %v", p, d, err)
		}
	}
	for _, p := range []string{"recv/b", "recv/\na"} {
		if d, err := parseShow(showed, p); err == nil {
			t.Errorf("%q: %+v", p, d)
		}
	}
	// A name that pretends to be what follows it.
	name := "a\n\tName: \t\t\ta\n\tUUID: \t\t\t11111111-1111-1111-1111-111111111111\n\tSubvolume ID: \t\t9\n\tSnapshot(s):"
	forged := strings.Replace(strings.Replace(showed, "Name: \t\t\ta\n", "Name: \t\t\t"+name+"\n", 1), "recv/a\n", "recv/"+name+"\n", 1)
	if d, err := parseShow(forged, "recv/"+name); err != nil || d != want {
		t.Errorf("a forged name: %+v, %v", d, err)
	}
}

// render prints subvolumes as btrfs subvolume list does.
func render(all []subvolume) (full, readOnly string) {
	text := func(id snapshot.ID) string {
		if id.IsZero() {
			return fmt.Sprintf("%-36s", "-")
		}
		return id.String()
	}
	var a, b strings.Builder
	for _, v := range all {
		fmt.Fprintf(&a, "ID %d gen %d cgen %d parent %d top level %d parent_uuid %s received_uuid %s uuid %s path %s\n",
			v.id, v.cgen+1, v.cgen, v.top, v.top, text(v.parent), text(v.received), text(v.uuid), v.path)
		if v.readOnly {
			fmt.Fprintf(&b, "ID %d gen %d top level %d path %s\n", v.id, v.cgen+1, v.top, v.path)
		}
	}
	return a.String(), b.String()
}

// TestListings makes listings of names that may be anything, lines of listings
// among them, and expects what is read to be what there is.
func TestListings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []subvolume
		paths := map[uint64]string{}
		for n := uint64(256); n < 256+uint64(rapid.IntRange(0, 5).Draw(t, "count")); n++ {
			v := subvolume{id: n, cgen: n, top: 5, readOnly: rapid.Bool().Draw(t, "ro")}
			v.uuid[0], v.uuid[1] = byte(n), byte(n>>8)
			name := rapid.StringMatching(`[a-c \n]{1,4}`)
			forged := rapid.Custom(func(t *rapid.T) string {
				f := v
				f.id, f.readOnly, f.path = rapid.Uint64Range(255, 262).Draw(t, "fake id"), true, name.Draw(t, "fake")
				full, ro := render([]subvolume{f})
				return name.Draw(t, "before") + "\n" + rapid.SampledFrom([]string{full, ro, full + ro, ro + full}).Draw(t, "line") + name.Draw(t, "after")
			})
			v.path = rapid.OneOf(name, forged).Draw(t, "path")
			all, paths[n] = append(all, v), v.path
		}
		full, readOnly := render(all)
		check := func(how string, paths map[uint64]string) error {
			got, err := parseFull(full, paths)
			if err != nil {
				return err
			}
			frozen, err := parseReadOnly(readOnly, paths)
			if err != nil {
				return err
			}
			for i := range got {
				p, ok := frozen[got[i].id]
				if ok && p != got[i].path {
					return errAmbiguous
				}
				got[i].readOnly = ok
			}
			// Without knowing the paths, a name can add something writable, but no
			// snapshot.
			want := all
			if paths == nil {
				want = slices.Clone(want)
				writable := func(v subvolume) bool { return !v.readOnly }
				got, want = slices.DeleteFunc(got, writable), slices.DeleteFunc(want, writable)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(subvolume{}), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%s: %s\n%s", how, full, diff)
			}
			return nil
		}
		if err := check("knowing the paths", paths); err != nil {
			t.Fatalf("%v of\n%s", err, full)
		}
		err := check("by line", nil)
		if odd := slices.ContainsFunc(all, func(v subvolume) bool { return strings.Contains(v.path, "\n") }); !odd && err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(listed, listedReadOnly, showed, "recv/a")
	f.Add("ID 256 gen 1 cgen 1 parent 5 top level 5 parent_uuid - received_uuid - uuid - path \n", "", "a\n\tName: a\n\tUUID: -\n", "a")
	f.Fuzz(func(t *testing.T, full, readOnly, show, p string) {
		if all, err := parseFull(full, nil); err == nil {
			last := uint64(0)
			for _, v := range all {
				if v.id <= last || strings.Contains(v.path, "\n") {
					t.Errorf("read %+v after %d", v, last)
				}
				last = v.id
			}
		}
		paths := map[uint64]string{}
		for _, id := range numbers(full, readOnly) {
			paths[id] = p
		}
		if all, err := parseFull(full, paths); err == nil {
			for _, v := range all {
				if v.path != p {
					t.Errorf("read %+v where all are %q", v, p)
				}
			}
		}
		_, _ = parseReadOnly(readOnly, nil)
		if d, err := parseShow(show, p); err == nil && (d.uuid.IsZero() || d.id == 0) {
			t.Errorf("shown: %+v", d)
		}
		if sections, whole := split(full, "-- x"); whole && !strings.Contains(full, "-- x .") {
			t.Errorf("a whole script of %+v", sections)
		}
		_ = parseRelease(full)
	})
}

// TestSplitCut cuts the output of a script everywhere: what is left never passes
// for all of it.
func TestSplitCut(t *testing.T) {
	const out = "hello\n-- x + a\n1\n-- x = 0\n-- x + b\n-- x = 3\n-- x + c\nno newline-- x = 0\n-- x .\n"
	for n := range len(out) {
		if sections, whole := split(out[:n], "-- x"); whole {
			t.Errorf("%q is a whole script of %+v", out[:n], sections)
		}
	}
	sections, whole := split(out, "-- x")
	want := map[string]section{"a": {"1\n", 0}, "b": {"", 3}, "c": {"no newline", 0}}
	if diff := cmp.Diff(want, sections, cmp.AllowUnexported(section{})); diff != "" || !whole {
		t.Error(whole, diff)
	}
}

func TestRelease(t *testing.T) {
	for text, want := range map[string]uint32{
		"btrfs-progs v6.2\n": 2, "btrfs-progs v5.16.2 \n": 1, "btrfs-progs v6.11\n+EXPERIMENTAL -INJECT": 2, "": 1, "btrfs-progs v\n": 1,
	} {
		if got := receives(parseRelease(text)); got != want {
			t.Errorf("%q receives protocol %d, want %d", text, got, want)
		}
	}
}

func TestPartName(t *testing.T) {
	for _, name := range []string{"a", "a b\n", "x_01234567.part"} {
		part := partName(name)
		if !isRemainder(part, name) || !snapshot.IsPart(part) || len(part) != len(name)+tailLength {
			t.Errorf("%q", part)
		}
		if isRemainder(part, name+"_") || isRemainder(name+snapshot.PartSuffix, name) || isRemainder(name, name) {
			t.Errorf("%q is taken for the remainder of another", part)
		}
	}
}
