package cli

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/plan"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// The names in a plan are a promise to programs: the record holds all of it, and
// lists are there even if they are empty.
func TestPlanRecord(t *testing.T) {
	id := func(b byte) snapshot.ID { return snapshot.ID{b} }
	snap := func(b byte, path string) snapshot.Snapshot { return snapshot.Snapshot{ID: id(b), Path: path} }
	o := &job.Outlook{
		Source: "btrfs /a", Destination: "btrfs /b\xff", Excluded: 3,
		Plan: &plan.Plan{
			Steps: []plan.Step{
				{Action: plan.Send, Edge: snapshot.Edge{To: id(1)}, Path: "one", Reason: "full: because", Intermediate: true, Chain: 1},
				{
					Action: plan.Send, Edge: snapshot.Edge{To: id(2), From: id(1)}, Parent: snap(1, "one"), Path: "two",
					Clones: []snapshot.Snapshot{snap(3, "three")}, Size: snapshot.ExactSize(5), Reason: "increment from one", Chain: 2,
				},
			},
			Keep:     []snapshot.Snapshot{snap(3, "three")},
			Problems: []plan.Problem{{Snapshot: snap(4, "four"), Path: "four", Why: "taken", Conflict: true}},
			Remove:   []snapshot.Snapshot{snap(5, "five")},
			Cost:     70, Bound: 60, Guessed: 1,
		},
		Thawings: []store.Thawing{
			{Edge: snapshot.Edge{To: id(1)}, Path: "one", State: store.Readable},
			{Edge: snapshot.Edge{To: id(2), From: id(1)}, Path: "two", Object: "two/x", Bytes: 7, Class: "GLACIER", State: store.Cold},
		},
	}
	var out bytes.Buffer
	newRecords(&out).put(recordOfPlan(o, true))
	const want = `{
 "event": "plan", "dry_run": true, "source": "btrfs /a", "destination": "btrfs /b\\xff",
 "steps": [
  {"action": "send", "to": "01000000-0000-0000-0000-000000000000", "path": "one", "bytes": null, "exact": false,
   "reason": "full: because", "clones": [], "intermediate": true, "chain": 1},
  {"action": "send", "to": "02000000-0000-0000-0000-000000000000", "from": "01000000-0000-0000-0000-000000000000",
   "from_path": "one", "path": "two", "bytes": 5, "exact": true, "reason": "increment from one",
   "clones": [{"id": "03000000-0000-0000-0000-000000000000", "path": "three"}], "intermediate": false, "chain": 2}
 ],
 "keep": [{"id": "03000000-0000-0000-0000-000000000000", "path": "three"}],
 "problems": [{"id": "04000000-0000-0000-0000-000000000000", "path": "four", "why": "taken", "conflict": true}],
 "remove": [{"id": "05000000-0000-0000-0000-000000000000", "path": "five"}],
 "excluded": 3, "bytes": null, "exact": false, "cost": 70, "bound": 60, "guessed": 1,
 "thawing": [{"to": "02000000-0000-0000-0000-000000000000", "from": "01000000-0000-0000-0000-000000000000", "path": "two",
  "object": "two/x", "bytes": 7, "class": "GLACIER", "state": "cold"}]
}`
	decode := func(text string) (v any) {
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return v
	}
	if diff := cmp.Diff(decode(want), decode(out.String())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	out.Reset()
	newRecords(&out).put(recordOfPlan(&job.Outlook{Plan: &plan.Plan{}}, false))
	for _, list := range []string{"steps", "keep", "problems", "remove", "thawing"} {
		if _, ok := decode(out.String()).(map[string]any)[list].([]any); !ok {
			t.Errorf("%s is no list in %s", list, &out)
		}
	}
}
