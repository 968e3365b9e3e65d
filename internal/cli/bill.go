package cli

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/store"
)

// pricesFlag gives a command the flag --prices.
func pricesFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "prices", "", "estimate with the prices in `FILE`, if it has any")
}

// longestPrices is how much of a file with prices is read: more is none.
const longestPrices = 1<<20 + 1

// prices are those of a file, over those that the program knows.
func (env *Env) prices(file string) (*bill.Table, error) {
	if file == "" {
		return bill.Default(), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, &exitError{code: exitConfig, err: fmt.Errorf("opening the prices: %w", err)}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, longestPrices))
	if err != nil {
		return nil, &exitError{code: exitConfig, err: fmt.Errorf("reading the prices: %w", err)}
	}
	t, err := bill.Parse(file, data)
	if err != nil {
		return nil, &exitError{code: exitConfig, err: err, hint: "'buttersink cost --print-prices' prints the program's own, as an example."}
	}
	return t.Over(bill.Default()), nil
}

// money writes an amount with as many digits as mean something.
func money(amount float64, currency string) string {
	text := ""
	switch size := math.Abs(amount); {
	case size == 0:
		text = "0.00"
	case size < 0.0001:
		text = "less than 0.0001"
	case size < 1:
		text = fmt.Sprintf("%.4f", amount)
	default:
		text = fmt.Sprintf("%.2f", amount)
	}
	return text + " " + currency
}

// priceText is what an estimate comes to.
func priceText(e bill.Estimate) string {
	if e.Currency == "" {
		return "no prices are known"
	}
	var parts []string
	if e.Once != 0 || e.Monthly == 0 {
		parts = append(parts, money(e.Once, e.Currency)+" once")
	}
	if e.Monthly != 0 {
		parts = append(parts, money(e.Monthly, e.Currency)+" a month")
	}
	return strings.Join(parts, " and ")
}

// itemLines are the items of an estimate.
func itemLines(e bill.Estimate) []string {
	var rows [][]string
	for _, l := range e.Lines {
		amount := ""
		switch {
		case l.Bytes != 0:
			amount = meter.Bytes(abs(l.Bytes))
		case slices.Contains([]string{bill.Uploading, bill.Asking, bill.Reading}, l.What):
			amount = plural(int(abs(l.Count)), "request", "requests")
		default:
			amount = plural(int(abs(l.Count)), "object", "objects")
		}
		price := ""
		if e.Currency != "" {
			if price = money(l.Cost, e.Currency); l.Monthly {
				price += " a month"
			}
		}
		rows = append(rows, []string{l.What, l.Class, amount, price})
	}
	return aligned(rows)
}

func abs(n int64) int64 { return max(n, -n) }

// aligned writes rows with the columns below each other.
func aligned(rows [][]string) (lines []string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if widths[i] > 0 {
				fmt.Fprintf(&b, "  %-*s", widths[i], cell)
			}
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}

// roughly is "5 h", "2 min", "3 days".
func roughly(d time.Duration) string {
	switch {
	case d < time.Hour:
		return fmt.Sprintf("%.0f min", max(d.Minutes(), 1))
	case d >= 72*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}

// waitText is how long it takes until something can be read.
func waitText(w bill.Wait) string {
	switch {
	case w == (bill.Wait{}):
		return "readable at once"
	case roughly(w.Least) == roughly(w.Most):
		return "readable after about " + roughly(w.Most)
	}
	return "readable after " + roughly(w.Least) + " to " + roughly(w.Most)
}

// tierOrder is the order in which tiers are shown: the cheapest first.
var tierOrder = []store.Tier{store.Bulk, store.Standard, store.Expedited}

// restoringLines tell what having streams back costs by each tier, or, where none
// of them is cold, once.
func restoringLines(what string, r *job.Restoring) []string {
	head := fmt.Sprintf("%s: %s, %s", what, plural(r.Streams, "stream", "streams"), meter.Bytes(r.Bytes))
	if r.Pending > 0 {
		head += fmt.Sprintf(", %d of them asked for already", r.Pending)
	}
	if r.Cold == 0 {
		ready := ", readable at once: "
		if r.Pending > 0 {
			ready = ": "
		}
		for _, tier := range tierOrder {
			if c, ok := r.Tiers[tier]; ok {
				return []string{head + ready + priceText(c.Estimate)}
			}
		}
		return []string{head}
	}
	var rows [][]string
	for _, tier := range tierOrder {
		c, ok := r.Tiers[tier]
		if !ok {
			rows = append(rows, []string{string(tier), "not possible for all of them", ""})
			continue
		}
		rows = append(rows, append([]string{string(tier)}, tierTexts(c)...))
	}
	return append([]string{fmt.Sprintf("%s, %d of them cold:", head, r.Cold)}, aligned(rows)...)
}

// tierTexts are what a tier costs and how long it takes, of what is cold.
func tierTexts(c job.TierCost) []string {
	cost, wait := priceText(c.Estimate), waitText(c.Wait)
	if c.Unpriced {
		cost += ", and what thawing costs"
	}
	if c.Wait == (bill.Wait{}) {
		wait = "readable at a time that is not known"
	}
	return []string{cost, wait}
}

// earlyLine tells what removing for good costs now; empty if that is nothing.
func earlyLine(e *job.Early) string {
	fee := e.Fee()
	if fee == 0 || e.Currency == "" {
		return ""
	}
	when := "removing it for good now"
	if e.Later {
		when = "emptying the trash of it now"
	}
	text := fmt.Sprintf("Estimate: %s costs %s, since it has not been stored for as long as is charged", when, money(fee, e.Currency))
	if !e.Settled.IsZero() {
		text += "; from " + e.Settled.Local().Format(time.DateOnly) + " on it costs nothing"
	}
	return text
}

// forecastLines tell what a run costs, and on what that rests.
func forecastLines(f *job.Forecast) (lines []string) {
	if f == nil {
		return nil
	}
	var all []bill.Estimate
	if f.Storing != nil {
		lines = append(lines, "Estimate of storing it: "+priceText(*f.Storing))
		lines = append(lines, itemLines(*f.Storing)...)
		all = append(all, *f.Storing)
	}
	if f.Removing != nil {
		lines = append(lines, "Estimate of removing for good: "+priceText(*f.Removing))
		lines = append(lines, itemLines(*f.Removing)...)
		all = append(all, *f.Removing)
	}
	for _, r := range []struct {
		what string
		*job.Restoring
	}{{"Estimate of reading the source", f.Restoring}, {"Estimate of having the newest back later", f.Back}} {
		if r.Restoring != nil {
			lines = append(lines, restoringLines(r.what, r.Restoring)...)
			all = append(all, estimatesOf(r.Restoring)...)
		}
	}
	return append(lines, assumptionLines(all...)...)
}

func estimatesOf(r *job.Restoring) (all []bill.Estimate) {
	for _, tier := range tierOrder {
		if c, ok := r.Tiers[tier]; ok {
			all = append(all, c.Estimate)
		}
	}
	return all
}

// assumptionLines tell on what estimates rest, each thing once.
func assumptionLines(all ...bill.Estimate) (lines []string) {
	for _, e := range all {
		for _, a := range e.Assumptions {
			if line := "  assumed: " + a; !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// sayForecast tells people what a run costs.
func (env *Env) sayForecast(f *job.Forecast) {
	for _, line := range forecastLines(f) {
		env.Log.Info(line)
	}
}

// sayEarly tells people what removing for good costs before it is done.
func (env *Env) sayEarly(e *job.Early) {
	line := earlyLine(e)
	if line == "" {
		return
	}
	env.Log.Warn(line)
	for _, line := range assumptionLines(e.Estimate) {
		env.Log.Info(line)
	}
}

// earlyRecord is what removing for good costs.
type earlyRecord struct {
	Event string `json:"event"` // "forecast"
	*job.Early
}

// className is how people know the class of what has none.
func className(class string) string { return cmp.Or(class, "STANDARD") }
