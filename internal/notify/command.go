package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// command tells a program of the user's.
func command(ctx context.Context, t Target, r Report, log *slog.Logger) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	env := []string{
		"BUTTERSINK_EVENT=" + string(r.Event),
		"BUTTERSINK_JOB=" + r.Job,
		"BUTTERSINK_HOST=" + r.Host,
		"BUTTERSINK_BEGUN=" + stamp(r.Begun),
		"BUTTERSINK_ENDED=" + stamp(r.Ended),
		"BUTTERSINK_MESSAGE=" + r.Summary,
		"BUTTERSINK_DETAILS=" + strings.Join(r.Details, "\n"),
	}
	return run(ctx, t, t.Command, env, append(text, '\n'), log)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}
