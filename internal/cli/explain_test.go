package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
)

func TestSplitSnapshot(t *testing.T) {
	for _, c := range []struct{ arg, dir, name string }{
		{"/a/b", "/a/", "b"},
		{"/b", "/", "b"},
		{"b", "./", "b"},
		{"a/b", "a/", "b"},
		{"/a/./b/c", "/a/", "b/c"},
		{"./b/c", "./b/", "c"},
		{"/a/.//b//c/./d", "/a/", "b/c/d"},
		{"/a//b", "/a//", "b"},
		{"btrfs:///a/b", "btrfs:///a/", "b"},
		{"file:///a/./b/c", "file:///a/", "b/c"},
		{"btrfs://b", "btrfs://./", "b"},
		{"/a/ x ", "/a/", " x "},
		{"ssh://u@h:22/a/b", "ssh://u@h:22/a/", "b"},
		{"ssh://h/b", "ssh://h/", "b"},
		{"ssh+btrfs://[::1]/a/./b/c", "ssh+btrfs://[::1]/a/", "b/c"},
	} {
		dir, name, err := splitSnapshot(c.arg)
		if err != nil || dir != c.dir || name != c.name {
			t.Errorf("%q: %q, %q, %v, want %q, %q", c.arg, dir, name, err, c.dir, c.name)
		}
	}
	for _, arg := range []string{"", "/", "/a/", ".", "..", "/a/..", "/a/.", "/a/./", "/a/./b/", "/a/./../b", "/a/./b/../../c", "btrfs://", "ssh://h", "ssh://h/", "ssh://h/a/", "ssh+btrfs://h/..", "s3://bucket"} {
		if dir, name, err := splitSnapshot(arg); err == nil {
			t.Errorf("%q: %q, %q, want an error", arg, dir, name)
		}
	}
}

func FuzzSplitSnapshot(f *testing.F) {
	f.Add("/a/./b/c")
	f.Add("btrfs:///a/b")
	f.Fuzz(func(t *testing.T, arg string) {
		dir, name, err := splitSnapshot(arg)
		if err != nil {
			return
		}
		if !strings.HasSuffix(dir, "/") || name == "" || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.Contains("/"+name+"/", "/../") {
			t.Errorf("%q became %q and %q", arg, dir, name)
		}
		if p, err := place.Parse(dir, false); err == nil && p.Name != "" {
			t.Errorf("%q: the directory %q names a snapshot", arg, dir)
		}
	})
}

func TestPrintExplanation(t *testing.T) {
	x := &plan.Explanation{
		ID: snapshot.ID{1}, Path: "deep/two\x1b[2J", Wanted: true, Decision: plan.WillSend, Reason: "increment from one: 5 bytes",
		Parent: snapshot.ID{2}, ParentPath: "one\xff", Children: []string{"three", "fo\nur"},
		Considered: []plan.Considered{
			{Verdict: plan.Chosen, Why: "5 bytes", Path: "one\xff", Bytes: 5, Exact: true},
			{Verdict: plan.Dearer, Why: "about 1 GiB; 1024 MiB more", Full: true, Bytes: 1 << 30},
			{Verdict: plan.Dearer, Why: "about 2 GiB by a guess; it would cost the same", Path: "far", Bytes: 2 << 30, Guessed: true},
			{Verdict: plan.Unrelated, Why: "it merely lies in the same directory", Path: "other"},
		},
	}
	const want = `01000000-0000-0000-0000-000000000000 deep/two\x1b[2J is sent from one\xff
  increment from one: 5 bytes
  these start from it: three, fo\nur

PARENT   SIZE      VERDICT     WHY
one\xff  5 bytes   chosen      -
(full)   ~1 GiB    costs more  1024 MiB more
far      (~2 GiB)  costs more  it would cost the same
other    -         unrelated   it merely lies in the same directory
`
	var out bytes.Buffer
	if err := printExplanation(&out, x); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	out.Reset()
	newRecords(&out).put(recordOfExplanation(x))
	var r map[string]any
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	first := r["considered"].([]any)[0].(map[string]any)
	if r["event"] != "explanation" || r["decision"] != "send" || r["parent_path"] != `one\xff` || first["path"] != `one\xff` || first["verdict"] != "chosen" {
		t.Errorf("the record is %s", &out)
	}
	if x.Considered[0].Path != "one\xff" {
		t.Error("making a record changes the explanation")
	}
}

// Every decision has a sentence of its own.
func TestHeadlines(t *testing.T) {
	seen := map[string]plan.Decision{}
	for _, d := range []plan.Decision{plan.WillSend, plan.WillCopy, plan.Kept, plan.Impossible, plan.NotWanted, plan.Between, plan.Unknown} {
		text := headline(&plan.Explanation{Decision: d})
		if other, ok := seen[text]; ok || !strings.Contains(text, " ") {
			t.Errorf("%q is %q, as is %q", d, text, other)
		}
		seen[text] = d
	}
}

// The help lists every verdict.
func TestVerdictsAreExplained(t *testing.T) {
	env, _, _ := testEnv(t, "buttersink")
	help := newExplain(env).Long
	for _, v := range []plan.Verdict{
		plan.Chosen, plan.Dearer, plan.Circular, plan.TooLong, plan.NotThere, plan.Changed, plan.Farther, plan.Unrelated, plan.NotKept,
	} {
		if !strings.Contains(help, "\n  "+string(v)+"  ") {
			t.Errorf("%q is not in the help", v)
		}
	}
}
