package archive_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/store"
)

// What is empty is damaged, with its snapshot, whether a manifest speaks of it or
// not, and wherever its identity is among the others.
func TestVerifyEmpty(t *testing.T) {
	for lost := 1; lost <= 3; lost++ {
		for _, described := range []bool{true, false} {
			v := newVerified(t)
			var keys []string
			for n := 1; n <= 3; n++ {
				keys = append(keys, v.put(t, n, 0, 10<<10, none))
			}
			v.alter(t, keys[lost-1], func([]byte) []byte { return nil })
			if !described {
				if err := os.Remove(v.file(keys[lost-1] + ".json")); err != nil {
					t.Fatal(err)
				}
			}
			for _, data := range []bool{false, true} {
				got, all := v.findings(t, v.open(t, none), store.VerifyOptions{Data: data})
				got.Read, got.ReadWhole = 0, 0
				want := &store.Verification{
					Streams:   map[store.Verdict]int{store.Sound: 2, store.Damaged: 1},
					Snapshots: map[store.Verdict]int{store.Sound: 2, store.Damaged: 1},
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("number %d, described %v, data %v:\n%s", lost, described, data, diff)
				}
				for _, f := range all {
					if f.Verdict == store.Damaged && (f.Path != v.path(lost) || f.Edge.To != snap(lost) || f.Why == "") {
						t.Errorf("number %d, described %v: found %+v", lost, described, f)
					}
				}
			}
		}
	}
}
