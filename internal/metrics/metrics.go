// Package metrics writes how things stand with jobs for Prometheus, as a text file
// that node_exporter's textfile collector reads.
//
// It knows names and meanings of the gauges, and nothing of how they come about: a
// [runner.Status] is all it is told. No gauge has a secret in it, and none is written
// of which nothing is known: a place without a success has no
// buttersink_job_last_success_timestamp_seconds, but it is late.
//
// The file is there as a whole or not at all, and everybody may read it. What it says
// was true when it was written. Whether a place is late changes with time, so what
// alerts goes by the times, or has the file written anew before it looks:
//
//	time() - buttersink_job_last_success_timestamp_seconds > 26 * 3600
//	buttersink status --textfile /var/lib/prometheus/node-exporter/buttersink.prom
//
// Memory is bounded by the number of jobs and their places.
//
//	err := metrics.Write("/var/lib/prometheus/node-exporter/buttersink.prom", status)
package metrics

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/buttersink/buttersink/internal/runner"
)

// gauge is one that is written of each place.
type gauge struct {
	name, help string
	// value is what it is, and false if that is not known.
	value func(*runner.PlaceStatus) (float64, bool)
}

// ofPlaces are the gauges of places. Times are seconds since 1970, UTC; "try" is the
// last run that did anything about a place.
var ofPlaces = []gauge{
	{"buttersink_job_last_success_timestamp_seconds", "When the job last succeeded at this place.", func(p *runner.PlaceStatus) (float64, bool) {
		if p.Success == nil {
			return 0, false
		}
		return seconds(p.Success.Ended), true
	}},
	{"buttersink_job_newest_snapshot_timestamp_seconds", "When the newest snapshot of the source was made that the last success at this place knew of.", func(p *runner.PlaceStatus) (float64, bool) {
		if p.Success == nil || p.Success.AsOf.IsZero() {
			return 0, false
		}
		return seconds(p.Success.AsOf), true
	}},
	{"buttersink_job_last_run_timestamp_seconds", "When the job last tried something at this place.", func(p *runner.PlaceStatus) (float64, bool) {
		if p.Try == nil {
			return 0, false
		}
		return seconds(p.Try.Ended), true
	}},
	{"buttersink_job_last_run_success", "1 if the last run of the job succeeded at this place.", func(p *runner.PlaceStatus) (float64, bool) {
		return truth(!p.Failed), p.Failed || p.Try != nil
	}},
	{"buttersink_job_outstanding_snapshots", "How many snapshots are due at this place and were missing after the last try.", func(p *runner.PlaceStatus) (float64, bool) {
		if p.Try == nil || p.Try.Outstanding < 0 {
			return 0, false
		}
		return float64(p.Try.Outstanding), true
	}},
	{"buttersink_job_chain_length", "How many streams the newest snapshot in this archive depends on; 0 where snapshots depend on nothing.", func(p *runner.PlaceStatus) (float64, bool) {
		if p.Try == nil {
			return 0, false
		}
		return float64(p.Try.Chain), true
	}},
	{"buttersink_job_max_age_seconds", "How old the last success at this place may be.", func(p *runner.PlaceStatus) (float64, bool) {
		return p.Limit.Seconds(), true
	}},
	{"buttersink_job_late", "1 if something was wrong at this place when this was written.", func(p *runner.PlaceStatus) (float64, bool) {
		return truth(p.Late), true
	}},
	{"buttersink_transferred_bytes", "What the last try transferred to this place.", func(p *runner.PlaceStatus) (float64, bool) {
		if p.Try == nil {
			return 0, false
		}
		return float64(p.Try.Bytes), true
	}},
}

// Write writes a text file, in place of one that is there. The path ends in ".prom",
// or nobody would read it.
func Write(path string, s *runner.Status) error {
	if filepath.Ext(path) != ".prom" {
		return fmt.Errorf("writing metrics to %s: node_exporter reads only files that are named *.prom", path)
	}
	registry := prometheus.NewRegistry()
	if err := fill(registry, s); err != nil {
		return fmt.Errorf("writing metrics to %s: %w", path, err)
	}
	if err := replace(path, registry); err != nil {
		return fmt.Errorf("writing metrics to %s: %w", path, err)
	}
	return nil
}

// replace puts what a registry has in place of a file. The directory may be that of
// another user, so nothing but renaming goes by a name in it.
func replace(path string, registry *prometheus.Registry) (err error) {
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the directory %s is not there: make it, or correct the path", filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriter(f)
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	err = w.Flush()
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// fill puts what is known into a registry.
func fill(registry *prometheus.Registry, s *runner.Status) error {
	due := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "buttersink_job_next_due_timestamp_seconds", Help: "When the job is to run again.",
	}, []string{"job"})
	running := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "buttersink_job_running", Help: "1 if a run of the job was going on when this was written.",
	}, []string{"job"})
	if err := registry.Register(due); err != nil {
		return err
	}
	if err := registry.Register(running); err != nil {
		return err
	}
	for i := range s.Jobs {
		j := &s.Jobs[i]
		running.WithLabelValues(label(j.Job)).Set(truth(j.Running))
		if !j.NextDue.IsZero() {
			due.WithLabelValues(label(j.Job)).Set(seconds(j.NextDue))
		}
	}
	for _, g := range ofPlaces {
		vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: g.name, Help: g.help}, []string{"job", "source", "destination"})
		if err := registry.Register(vec); err != nil {
			return err
		}
		for i := range s.Jobs {
			for k := range s.Jobs[i].Places {
				p := &s.Jobs[i].Places[k]
				if v, known := g.value(p); known {
					vec.WithLabelValues(label(s.Jobs[i].Job), label(p.Source), label(p.Destination)).Set(v)
				}
			}
		}
	}
	return nil
}

func seconds(t time.Time) float64 { return float64(t.Unix()) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// label is text as the value of a label, which has to be UTF-8: other bytes are
// escaped.
func label(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && n == 1 {
			b.WriteString(`\x` + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
		} else {
			b.WriteString(text[i : i+n])
		}
		i += n
	}
	return b.String()
}
