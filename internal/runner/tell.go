package runner

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/notify"
)

// telling tells that the run begins, while it does, and returns what tells how it
// has ended. Whom cannot be told is a warning.
func (n *run) telling(ctx context.Context) (ended func(error)) {
	ctx = context.WithoutCancel(ctx) // that it was interrupted is worth telling
	var begun sync.WaitGroup
	begun.Go(func() {
		n.tell(ctx, notify.Report{
			Event: notify.Start, Job: n.job.Name, Host: n.hostName(), Begun: n.report.Begun,
			Summary: fmt.Sprintf("%s on %s begins", n.job.Name, n.hostName()),
		})
	})
	return func(err error) {
		begun.Wait() // or the end could arrive first
		n.tell(ctx, n.summary(err))
	}
}

// summary is what there is to tell in the end.
func (n *run) summary(err error) notify.Report {
	r := notify.Report{Event: notify.Success, Job: n.job.Name, Host: n.hostName(), Begun: n.report.Begun, Ended: n.report.Ended}
	took := r.Ended.Sub(r.Begun).Round(time.Second)
	complete, all := 0, 0
	for _, p := range n.report.Places {
		if p.Destination != "" {
			all++
			if p.Result == ledger.Done {
				complete++
			}
		}
		r.Details = append(r.Details, line(p))
	}
	r.Summary = fmt.Sprintf("%s on %s is done, in %s: %d of %d destinations complete", n.job.Name, n.hostName(), took, complete, all)
	if err != nil {
		r.Event = notify.Failure
		r.Summary = fmt.Sprintf("%s on %s has failed, after %s: %d of %d destinations complete", n.job.Name, n.hostName(), took, complete, all)
		for _, f := range n.failed {
			r.Details = append(r.Details, n.text(f))
		}
	}
	return r
}

// line is what became of a place, in a line.
func line(p ledger.PlaceRun) string {
	where := legible(p.Source)
	if p.Destination != "" {
		where += " -> " + legible(p.Destination)
	}
	parts := []string{string(p.Result)}
	if p.Snapshot != "" {
		parts = append(parts, "newest "+legible(p.Snapshot))
	}
	if p.Transferred > 0 {
		parts = append(parts, fmt.Sprintf("%d transferred (%d bytes)", p.Transferred, p.Bytes))
	}
	if p.Removed > 0 {
		parts = append(parts, fmt.Sprintf("%d removed", p.Removed))
	}
	if p.Outstanding > 0 {
		parts = append(parts, fmt.Sprintf("%d outstanding", p.Outstanding))
	}
	return where + ": " + strings.Join(parts, ", ")
}

// tell tells everybody who wants to hear of an event, side by side.
func (n *run) tell(ctx context.Context, r notify.Report) {
	var all sync.WaitGroup
	for _, to := range n.Notices {
		if !slices.Contains(n.job.Notify, to.Name) || !slices.Contains(to.On, string(r.Event)) {
			continue
		}
		all.Go(func() {
			if err := notify.Tell(ctx, n.target(to), r, n.log()); err != nil {
				n.log().Warn(fmt.Sprintf("%s: %s could not be told: %s", n.job.Name, to.Name, r.Summary), "error", n.text(err))
			}
		})
	}
	all.Wait()
}

// target is whom a notice tells about this job.
func (n *run) target(to config.Notice) notify.Target {
	return notify.Target{
		Name: to.Name, Ping: strings.ReplaceAll(to.Ping, "{job}", n.job.Name),
		Mail: to.Mail, Sendmail: to.Sendmail, Command: to.Command, Timeout: to.Timeout, Hide: n.Hide,
	}
}
