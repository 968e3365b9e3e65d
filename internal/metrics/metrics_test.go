package metrics

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"pgregory.net/rapid"

	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/runner"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func sample() *runner.Status {
	done := &ledger.PlaceRun{Ended: noon, Result: ledger.Done, Outstanding: 0, Chain: 7, Bytes: 3 << 40}
	failed := &ledger.PlaceRun{Ended: noon.Add(time.Hour), Result: ledger.Failed, Outstanding: 3, Bytes: 5}
	return &runner.Status{At: noon, Jobs: []runner.JobStatus{
		{Job: "home", NextDue: noon.Add(24 * time.Hour), Running: true, Places: []runner.PlaceStatus{
			{Source: "/home", Success: done, Try: done},
			{Source: "/home", Destination: `na"s\`, Success: done, Try: failed, Failed: true, Limit: 26 * time.Hour, Late: true},
		}},
		{Job: "srv", Places: []runner.PlaceStatus{
			{Source: "/sr\xffv\n", Destination: "never", Late: true},
			{Source: "/srv", Destination: "unknown", Late: true, Failed: true, Try: &ledger.PlaceRun{Ended: noon, Outstanding: -1}},
		}},
	}}
}

// parsed reads a file as node_exporter does: each gauge with its labels, and its
// value.
func parsed(t *testing.T, path string) map[string]float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for name, family := range families {
		if family.GetHelp() == "" {
			t.Errorf("%s does not say what it is", name)
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			key := name
			for _, l := range slices.Sorted(maps.Keys(labels)) {
				key += " " + l + "=" + strconv.Quote(labels[l])
			}
			if m.GetGauge() == nil {
				t.Errorf("%s is no gauge", key)
			}
			all[key] = m.GetGauge().GetValue()
		}
	}
	return all
}

func TestWrite(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	path := filepath.Join(t.TempDir(), "buttersink.prom")
	if err := Write(path, sample()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("the file has mode %v (%v), want 0644", info.Mode(), err)
	}
	const (
		here   = ` destination="" job="home" source="/home"`
		nas    = ` destination="na\"s\\" job="home" source="/home"`
		never  = ` destination="never" job="srv" source="/sr\\xffv\n"`
		sought = ` destination="unknown" job="srv" source="/srv"`
	)
	want := map[string]float64{
		`buttersink_job_running job="home"`:                    1,
		`buttersink_job_running job="srv"`:                     0,
		`buttersink_job_next_due_timestamp_seconds job="home"`: float64(noon.Unix() + 86400),
		"buttersink_job_last_success_timestamp_seconds" + here: float64(noon.Unix()),
		"buttersink_job_last_success_timestamp_seconds" + nas:  float64(noon.Unix()),
		"buttersink_job_last_run_timestamp_seconds" + here:     float64(noon.Unix()),
		"buttersink_job_last_run_timestamp_seconds" + nas:      float64(noon.Unix() + 3600),
		"buttersink_job_last_run_timestamp_seconds" + sought:   float64(noon.Unix()),
		"buttersink_job_last_run_success" + here:               1,
		"buttersink_job_last_run_success" + nas:                0,
		"buttersink_job_last_run_success" + sought:             0,
		"buttersink_job_outstanding_snapshots" + here:          0,
		"buttersink_job_outstanding_snapshots" + nas:           3,
		"buttersink_job_chain_length" + here:                   7,
		"buttersink_job_chain_length" + nas:                    0,
		"buttersink_job_chain_length" + sought:                 0,
		"buttersink_job_max_age_seconds" + here:                0,
		"buttersink_job_max_age_seconds" + nas:                 26 * 3600,
		"buttersink_job_max_age_seconds" + never:               0,
		"buttersink_job_max_age_seconds" + sought:              0,
		"buttersink_job_late" + here:                           0,
		"buttersink_job_late" + nas:                            1,
		"buttersink_job_late" + never:                          1,
		"buttersink_job_late" + sought:                         1,
		"buttersink_transferred_bytes" + here:                  3 << 40,
		"buttersink_transferred_bytes" + nas:                   5,
		"buttersink_transferred_bytes" + sought:                0,
	}
	if d := cmp.Diff(want, parsed(t, path)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	// Written again, it is replaced, and nothing is left beside it.
	if err := Write(path, &runner.Status{}); err != nil {
		t.Fatal(err)
	}
	if got := parsed(t, path); len(got) != 0 {
		t.Errorf("of no jobs it says %v", got)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory has %v (%v)", entries, err)
	}
}

// TestNeverHalf looks at the file again and again while it is written: it is whole.
func TestNeverHalf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.prom")
	if err := Write(path, sample()); err != nil {
		t.Fatal(err)
	}
	want := parsed(t, path)
	stop := make(chan struct{})
	written := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				written <- nil
				return
			default:
				if err := Write(path, sample()); err != nil {
					written <- err
					return
				}
			}
		}
	}()
	for range 200 {
		if d := cmp.Diff(want, parsed(t, path)); d != "" {
			t.Fatalf("half of it is missing (-want +got):\n%s", d)
		}
	}
	close(stop)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

// TestForeignDirectory holds that who owns the directory, and is quick, does not have
// the mode of another file changed.
func TestForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "x.prom")
	stop, ended := make(chan struct{}), make(chan int)
	go func() {
		swapped := 0
		for {
			select {
			case <-stop:
				ended <- swapped
				return
			default:
			}
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				name := filepath.Join(dir, e.Name())
				if e.Type().IsRegular() && name != path && os.Remove(name) == nil && os.Symlink(secret, name) == nil {
					swapped++
				}
			}
		}
	}()
	for range 300 {
		_ = Write(path, sample()) // it may find its file gone
	}
	close(stop)
	if <-ended == 0 {
		t.Error("nobody was quick enough: this tests nothing")
	}
	if info, err := os.Stat(secret); err != nil || info.Mode() != 0o600 || info.Size() != 0 {
		t.Errorf("it is %v, and has %d bytes (%v)", info.Mode(), info.Size(), err)
	}
}

func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "x.txt"):          "node_exporter reads only files that are named *.prom",
		filepath.Join(dir, "none", "x.prom"): "the directory " + filepath.Join(dir, "none") + " is not there: make it, or correct the path",
	} {
		err := Write(path, sample())
		if err == nil || !strings.HasPrefix(err.Error(), "writing metrics to "+path+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("there is %v (%v)", entries, err)
	}
}

// TestAnyNames holds that no name, however odd, keeps metrics from being written, or
// makes them unreadable.
func TestAnyNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.prom")
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.Custom(func(rt *rapid.T) string { return string(rapid.SliceOfN(rapid.Byte(), 0, 6).Draw(rt, "bytes")) })
		s := sample()
		for i := range s.Jobs {
			for k := range s.Jobs[i].Places {
				p := &s.Jobs[i].Places[k]
				p.Source, p.Destination = name.Draw(rt, "source"), name.Draw(rt, "destination")
			}
		}
		if err := Write(path, s); err != nil {
			rt.Fatal(err)
		}
		if len(parsed(t, path)) < 12 {
			rt.Fatal("something is missing")
		}
	})
}
