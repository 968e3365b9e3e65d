// Package notify tells people and services how a job went.
package notify

import (
	"context"
	"log/slog"
	"time"
)

// Event is what is told.
type Event string

const (
	Start   Event = "start"
	Success Event = "success"
	Failure Event = "failure"
)

// Report is what there is to tell.
type Report struct {
	Event        Event
	Job          string
	Host         string
	Begun, Ended time.Time // Ended is zero at the start
	// Summary is one line, and Details several.
	Summary string
	Details []string
}

// Target is whom to tell; one of Ping, Mail and Command is set.
type Target struct {
	Name     string
	Ping     string
	Mail     []string
	Sendmail []string
	Command  []string
	Timeout  time.Duration
	Hide     []string
}

// Tell tells one target.
func Tell(ctx context.Context, t Target, r Report, log *slog.Logger) error { return nil }
