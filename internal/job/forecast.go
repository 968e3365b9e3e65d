package job

import (
	"context"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/store"
)

// Forecast is what a run is going to cost, about; nil parts cost nothing that
// anybody bills.
type Forecast struct {
	// Storing is what is stored at the destination, and Restoring what is read from
	// the source.
	Storing   *bill.Estimate `json:"storing,omitempty"`
	Restoring *Restoring     `json:"restoring,omitempty"`
	// Removing is what removing for good costs now; removing to the trash costs
	// nothing yet.
	Removing *bill.Estimate `json:"removing,omitempty"`
}

// Restoring is what it costs to have streams back, and how long it takes until
// they are readable, by tier. A tier that is not there for all of them is left out.
type Restoring struct {
	Tiers map[store.Tier]TierCost `json:"tiers"`
	// Days is how long they are to stay readable.
	Days int `json:"days"`
}

// TierCost is what one tier costs.
type TierCost struct {
	bill.Estimate
	Wait bill.Wait `json:"wait"`
}

// restoring estimates what it costs to have streams back.
func (e *Engine) restoring(ctx context.Context, src store.Store, streams []store.Thawing, days int) *Restoring {
	return nil
}
