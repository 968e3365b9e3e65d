package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/bill"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
)

// costOptions are the flags of cost.
type costOptions struct {
	json, printPrices bool
	days              int
	prices            string
	s3                s3Flags
}

// newCost returns the command that tells what an archive costs.
func newCost(env *Env) *cobra.Command {
	var o costOptions
	cmd := &cobra.Command{
		Use:   "cost [flags] STORE[/SNAPSHOT]",
		Short: "Estimate what an archive costs, and what having it back would",
		Long: `cost looks at what an archive in S3 or in a Glacier vault holds, and estimates what
keeping it costs each month, by storage class; what emptying its trash now would
cost, where a class charges for a least time; and what having everything back would
cost and how long it would take, for each way of thawing. With a snapshot behind the
slash that is about the snapshot, and all that it needs.

All figures are estimates, from a list of prices in the program, and what they rest
on is said below them. --prices has a list of your own go before it, which has the
same form: --print-prices prints the program's, with what each number means and
where it is from. A provider that is in neither is shown without money.

Before: STORE is s3:// or glacier:// ("buttersink help urls"), and you may read
there.

After: nothing has changed, and nothing has been asked of cold storage. Looking
takes requests, as a listing does.`,
		Example: `  buttersink cost s3://bucket/snaps/
  buttersink cost s3://bucket/snaps/monday
  buttersink cost --json --prices mine.toml s3://bucket/snaps/
  buttersink cost --print-prices > mine.toml`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.printPrices && len(args) > 0:
				return usagef(cmd.CommandPath(), "--print-prices is about no archive, got %d arguments", len(args))
			case !o.printPrices && len(args) != 1:
				return usagef(cmd.CommandPath(), "want one archive, got %d arguments", len(args))
			case o.days < 0 || o.days > 10000:
				return usagef(cmd.CommandPath(), "--days %d: want a number of days, from 1 on", o.days)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.printPrices {
				_, err := env.Stdout.Write(bill.Text())
				return env.untilReaderLeaves(err)
			}
			return env.untilReaderLeaves(runCost(cmd.Context(), env, cmd.CommandPath(), &o, args[0]))
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.days, "days", 7, "have what is thawed stay readable for `N` days")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line on standard output")
	f.BoolVar(&o.printPrices, "print-prices", false, "print the program's own prices, and look at nothing")
	pricesFlag(cmd, &o.prices)
	s3FlagsOf(cmd, &o.s3)
	return cmd
}

func runCost(ctx context.Context, env *Env, command string, o *costOptions, arg string) (err error) {
	out := newRecords(env.Stdout)
	if o.json {
		defer func() {
			out.put(costResultRecord{Event: "result", OK: err == nil, Exit: judge(err).code, Error: errorText(err)})
			err = errors.Join(err, out.err)
		}()
	}
	prices, err := env.prices(o.prices)
	if err != nil {
		return err
	}
	p, err := env.placeOf(command, arg, false)
	if err != nil {
		return err
	}
	notes := env.notesFor(p)
	if p.Scheme == "glacier" { // whose catalogue it has
		notes = env.openLedger()
	}
	st, err := env.openArchive(ctx, command, p, "nobody sends a bill for it", opening{s3: o.s3, ledger: notes})
	if err != nil {
		return err
	}
	defer st.Close()
	engine := &job.Engine{Log: env.Log, Now: env.Now, Prices: prices}
	report, err := engine.Cost(ctx, st.Store, job.CostOptions{Name: st.Name, Days: o.days})
	if e, ok := errors.AsType[*job.NoSnapshotsError](err); ok {
		return &exitError{code: exitFailed, err: err, hint: st.noSnapshots(e.There)}
	}
	if err != nil {
		return err
	}
	if o.json {
		out.put(recordOfCost(report))
		return nil
	}
	_, err = io.WriteString(env.Stdout, costText(report))
	return err
}

// costRecord is what an archive costs.
type costRecord struct {
	Event    string         `json:"event"` // "cost"
	Store    string         `json:"store"`
	Provider string         `json:"provider"`
	Service  string         `json:"service"`
	Region   string         `json:"region"`
	Kept     []job.Kept     `json:"kept"`
	InTrash  []job.Kept     `json:"in_trash"`
	Keeping  bill.Estimate  `json:"keeping"` // with the trash
	Trash    bill.Estimate  `json:"trash"`
	Emptying *job.Early     `json:"emptying,omitempty"`
	Path     string         `json:"path,omitempty"`
	Back     *job.Restoring `json:"restoring,omitempty"`
}

// costResultRecord is the last record of cost.
type costResultRecord struct {
	Event string `json:"event"` // "result"
	OK    bool   `json:"ok"`
	Exit  int    `json:"exit"`
	Error string `json:"error,omitempty"`
}

func recordOfCost(r *job.CostReport) costRecord {
	return costRecord{
		Event: "cost", Store: validText(r.Store), Provider: r.Tariff.Provider, Service: r.Tariff.Service, Region: r.Tariff.Region,
		Kept: r.Kept, InTrash: r.InTrash, Keeping: r.Keeping, Trash: r.Trash, Emptying: r.Emptying,
		Path: validText(r.Path), Back: r.Restoring,
	}
}

// costText tells people what an archive costs.
func costText(r *job.CostReport) string {
	rows := [][]string{{"CLASS", "STREAMS", "OBJECTS", "SIZE"}}
	for _, k := range r.Kept {
		rows = append(rows, keptRow(className(k.Class), k))
	}
	for _, k := range r.InTrash {
		rows = append(rows, keptRow(className(k.Class)+", in the trash", k))
	}
	lines := []string{r.Store}
	lines = append(lines, aligned(rows)...)
	lines = append(lines, "Estimate of keeping it: "+priceText(r.Keeping))
	lines = append(lines, itemLines(r.Keeping)...)
	all := []bill.Estimate{r.Keeping}
	if len(r.InTrash) > 0 {
		lines = append(lines, "Estimate of keeping the trash, of that: "+priceText(r.Trash))
		switch line := earlyLine(r.Emptying); {
		case line != "":
			lines = append(lines, strings.Replace(line, "removing it for good", "emptying the trash", 1))
		case r.Emptying.Currency == "":
			lines = append(lines, "Estimate of emptying the trash: "+priceText(r.Emptying.Estimate))
		default:
			lines = append(lines, "Estimate: emptying the trash costs nothing")
		}
		all = append(all, r.Emptying.Estimate)
	}
	if r.Restoring != nil {
		what := "Estimate of having everything back"
		if r.Path != "" {
			what = "Estimate of having " + r.Path + " back"
		}
		lines = append(lines, restoringLines(what, r.Restoring)...)
		all = append(all, estimatesOf(r.Restoring)...)
	}
	lines = append(lines, assumptionLines(all...)...)
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n") + "\n"
}

func keptRow(class string, k job.Kept) []string {
	return []string{class, fmt.Sprint(k.Streams), fmt.Sprint(k.Objects), meter.Bytes(k.Bytes)}
}
