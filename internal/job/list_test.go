package job

import (
	"errors"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

func listed(l *Listing) []string {
	all := []string{}
	for _, s := range l.Snapshots {
		all = append(all, s.Path)
	}
	return all
}

func TestList(t *testing.T) {
	m := storetest.NewMemory("m")
	m.Add("f", 10, "b")
	m.Add("f", 20, "x/a")
	m.AddOutside("f", 5, "/elsewhere")
	m.AddPartial("c.part", true)
	e := &Engine{Ledger: mustLedger(t)}
	l, err := e.List(t.Context(), m, ListOptions{Estimate: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "x/a"}, listed(l)); diff != "" {
		t.Error(diff)
	}
	if l.Snapshots[0].Size.Known {
		t.Error("a size without having looked")
	}
	f := storetest.NewFault(m)
	for range 2 {
		if l, err = e.List(t.Context(), f, ListOptions{}); err != nil || !l.Snapshots[0].Size.Known {
			t.Errorf("%+v, %v", l.Snapshots, err)
		}
	}
	if n := f.Calls(storetest.Estimate); n != 2 {
		t.Errorf("%d estimates for 2 snapshots listed twice", n)
	}
	// What is remembered is known without looking.
	if l, err = e.List(t.Context(), m, ListOptions{Estimate: true}); err != nil || !l.Snapshots[1].Size.Known {
		t.Errorf("%+v, %v", l.Snapshots, err)
	}
	if l, err = e.List(t.Context(), m, ListOptions{Selection: Selection{Name: "a"}}); err != nil || len(l.Snapshots) != 1 {
		t.Errorf("by name: %v, %v", listed(l), err)
	}
	_, err = e.List(t.Context(), m, ListOptions{Selection: Selection{Name: "nosuch"}})
	if n, ok := errors.AsType[*NoSnapshotsError](err); !ok || !n.Named {
		t.Errorf("no such name: %v", err)
	}
	if l, err = e.List(t.Context(), m, ListOptions{Selection: Selection{Exclude: []*regexp.Regexp{regexp.MustCompile("")}}}); err != nil || len(l.Snapshots) != 0 {
		t.Errorf("all excluded: %v, %v", listed(l), err)
	}
	// A size that cannot be had is not worth failing for.
	f.On(storetest.Estimate).Always().Return(errors.New("no"))
	if l, err = (&Engine{}).List(t.Context(), f, ListOptions{}); err != nil || l.Snapshots[0].Size.Known {
		t.Errorf("%+v, %v", l.Snapshots, err)
	}
}

func TestListCleans(t *testing.T) {
	m := storetest.NewMemory("m")
	m.Add("f", 10, "a")
	m.AddPartial("b.part", true)
	m.AddPartial("c.part", false)
	var told []string
	o := ListOptions{Clean: true, DryRun: true, Cleaned: func(p snapshot.Partial, err error) {
		if err != nil {
			t.Error(err)
		}
		told = append(told, p.Path)
	}}
	unlock, err := m.Lock(t.Context(), "somebody")
	if err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		o.DryRun, told = dry, nil
		if _, err := (&Engine{}).List(t.Context(), m, o); dry && err != nil {
			t.Fatal(err)
		} else if !dry && !is[*store.LockedError](err) {
			t.Fatalf("cleaning while locked: %v", err)
		}
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	told = nil
	l, err := (&Engine{}).List(t.Context(), m, o)
	if err != nil || !cmp.Equal(told, []string{"b.part"}) || len(l.Snapshots) != 1 {
		t.Errorf("cleaned %v, %v", told, err)
	}
	inv, err := m.List(t.Context())
	if err != nil || len(inv.Partials) != 1 || inv.Partials[0].Path != "c.part" {
		t.Errorf("left: %+v, %v", inv.Partials, err)
	}

	only := storetest.NewMemory("only")
	only.AddPartial("e.part", true)
	if _, err := (&Engine{}).List(t.Context(), only, o); err != nil {
		t.Errorf("nothing but what was cleaned: %v", err)
	}
	if _, err := (&Engine{}).List(t.Context(), only, o); !is[*NoSnapshotsError](err) {
		t.Errorf("nothing left: %v", err)
	}

	m.AddPartial("d.part", true)
	f := storetest.NewFault(m)
	f.On(storetest.RemovePartial).Return(errors.New("busy"))
	o.Cleaned = nil
	if l, err := (&Engine{}).List(t.Context(), f, o); err == nil || len(l.Snapshots) != 1 {
		t.Errorf("a removal that fails: %v", err)
	}
}
