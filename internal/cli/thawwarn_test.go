package cli

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/store"
)

// TestWarnsOfWhatIsDear: before anything that costs a lot is asked for there is a
// warning, also where the tier is not there for all of it.
func TestWarnsOfWhatIsDear(t *testing.T) {
	cost := func(once float64) map[store.Tier]job.TierCost {
		return map[store.Tier]job.TierCost{store.Expedited: {Estimate: bill.Estimate{Once: once, Currency: "USD"}}}
	}
	for name, tt := range map[string]struct {
		r     *job.Restoring
		limit float64
		want  bool
	}{
		"nobody bills it": {nil, 0, false},
		"dear":            {&job.Restoring{Tiers: cost(11)}, 0, true},
		"cheap":           {&job.Restoring{Tiers: cost(9)}, 0, false},
		"limited":         {&job.Restoring{Tiers: cost(11)}, 20, false},
		"some of it":      {&job.Restoring{Partly: cost(11)}, 0, true},
		"none of it":      {&job.Restoring{}, 0, false},
	} {
		env, _, _ := testEnv(t, "buttersink")
		var out bytes.Buffer
		env.Log = slog.New(slog.NewTextHandler(&out, nil))
		o := &thawFlags{tier: tierFlag{store.Expedited}, maxCost: tt.limit}
		env.warnDear(o, tt.r)
		if got := strings.Contains(out.String(), "WARN"); got != tt.want {
			t.Errorf("%s: %q", name, out.String())
		}
	}
}
