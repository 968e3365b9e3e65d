package cli

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// thawFlags are the flags about what is in cold storage.
type thawFlags struct {
	tier    tierFlag
	days    int
	wait    bool
	maxCost float64
	prices  string
}

// coldGroup are these flags in a help.
var coldGroup = flagGroup{"From cold storage, and costs", []string{"days", "max-cost", "prices", "tier", "wait"}}

// thawFlagsOf gives a command the flags about cold storage.
func thawFlagsOf(cmd *cobra.Command, o *thawFlags) {
	f := cmd.Flags()
	f.Var(&o.tier, "tier", "have what is in cold storage by this `TIER`: bulk (the default, and the cheapest), standard or expedited")
	f.IntVar(&o.days, "days", 0, "have it stay readable for `N` days (default 7)")
	f.BoolVar(&o.wait, "wait", false, "wait until it is readable, in place of ending with exit code 5")
	f.Float64Var(&o.maxCost, "max-cost", 0, "stop before asking for anything if reading it costs more than this `AMOUNT`, by estimate (0 is no limit)")
	pricesFlag(cmd, &o.prices)
}

// tierFlag is a flag whose value is how soon cold storage gives something.
type tierFlag struct{ tier store.Tier }

func (f *tierFlag) String() string { return string(f.tier) }
func (f *tierFlag) Type() string   { return "TIER" }

// Set takes what was typed.
func (f *tierFlag) Set(text string) (err error) {
	f.tier, err = store.ParseTier(text)
	return err
}

// mostDays is how long something can be asked to stay readable.
const mostDays = 10000

// check says what is wrong with the values of the flags.
func (o *thawFlags) check(command string) error {
	switch {
	case o.days < 0 || o.days > mostDays:
		return usagef(command, "--days %d: want a number of days, from 1 on", o.days)
	case o.maxCost < 0 || math.IsNaN(o.maxCost) || math.IsInf(o.maxCost, 0):
		return usagef(command, "--max-cost %v: want an amount of money, or 0 for no limit", o.maxCost)
	}
	return nil
}

// given returns the first of the flags that was given and is only about reading
// from cold storage, as it is typed; "" if none was.
func (o *thawFlags) given() string {
	switch {
	case o.tier.tier != "":
		return "--tier"
	case o.days != 0:
		return "--days"
	case o.wait:
		return "--wait"
	case o.maxCost != 0:
		return "--max-cost"
	}
	return ""
}

func (o *thawFlags) options() store.ThawOptions {
	return store.ThawOptions{Tier: o.tier.tier, Days: o.days}
}

// tierName is the tier that is meant.
func (o *thawFlags) tierName() store.Tier {
	if o.tier.tier == "" {
		return store.Bulk
	}
	return o.tier.tier
}

// dear is from which amount on there is a warning if there is no limit.
const dear = 10

// warnDear says before anything is asked for that it costs a lot.
func (env *Env) warnDear(o *thawFlags, r *job.Restoring) {
	if r == nil || o.maxCost > 0 {
		return
	}
	c, ok := r.Tiers[o.tierName()]
	if !ok {
		c, ok = r.Partly[o.tierName()] // what can be asked for is, and costs that
	}
	if ok && c.Currency != "" && c.Once > dear {
		env.Log.Warn(fmt.Sprintf("Reading this costs an estimated %s (%s); with --max-cost a run stops before it asks for what costs more than that", money(c.Once, c.Currency), o.tierName()))
	}
}

// sayRestoring tells people what reading costs: what a run that asks for something
// is about to cause, and of a dry run everything.
func (env *Env) sayRestoring(o *thawFlags, what string, r *job.Restoring, dryRun bool) {
	switch {
	case r == nil:
		return
	case dryRun:
		for _, line := range append(restoringLines(what, r), assumptionLines(estimatesOf(r)...)...) {
			env.Log.Info(line)
		}
	case r.Cold > 0:
		if c, ok := r.Tiers[o.tierName()]; ok {
			env.Log.Info(fmt.Sprintf("%s: %s; -n says what that rests on", what, strings.Join(tierTexts(c), ", ")))
		}
	}
	env.warnDear(o, r)
}

// frozenOf are the streams that cannot be read yet.
func frozenOf(all []store.Thawing) []store.Thawing {
	return slices.DeleteFunc(slices.Clone(all), func(t store.Thawing) bool { return t.State == store.Readable })
}

// bytesOfStreams is how long streams are together, as they are stored.
func bytesOfStreams(all []store.Thawing) (n int64) {
	for _, t := range all {
		n += t.Bytes
	}
	return n
}

// sayCold tells what has to be asked for before anything is.
func (env *Env) sayCold(o *thawFlags, all []store.Thawing, dryRun bool) {
	cold := slices.DeleteFunc(frozenOf(all), func(t store.Thawing) bool { return t.State == store.Pending })
	pending := slices.DeleteFunc(frozenOf(all), func(t store.Thawing) bool { return t.State != store.Pending })
	if len(cold) > 0 {
		will := map[bool]string{true: "WOULD: Ask", false: "To be asked of"}[dryRun]
		env.Log.Info(fmt.Sprintf("%s cold storage%s %s (%s), %s", will, map[bool]string{true: " for", false: ":"}[dryRun], plural(len(cold), "stream", "streams"), meter.Bytes(bytesOfStreams(cold)), o.tierName()))
		if dryRun {
			for _, t := range cold {
				env.Log.Info(fmt.Sprintf("       %s, %s, %s", t.Path, className(t.Class), meter.Bytes(t.Bytes)))
			}
		}
	}
	if len(pending) > 0 {
		env.Log.Info(fmt.Sprintf("Asked for before, and not readable yet: %s (%s)", plural(len(pending), "stream", "streams"), meter.Bytes(bytesOfStreams(pending))))
	}
}

// waitingLines are what is waited for, as a table.
func waitingLines(all []job.Waiting) []string {
	rows := [][]string{{"SNAPSHOT", "SIZE", "CLASS", "ASKED FOR", "TIER", "READABLE BY"}}
	for _, w := range all {
		asked, due := "", "not known"
		switch {
		case w.State == store.Cold:
			asked, due = "not yet", ""
		case !w.Asked.IsZero():
			asked = w.Asked.Local().Format(minutes)
		}
		if w.State != store.Cold && !w.Due.IsZero() {
			due = w.Due.Local().Format(minutes)
		}
		rows = append(rows, []string{printable(w.Path), meter.Bytes(w.Bytes), className(w.Class), asked, string(w.Tier), due})
	}
	return aligned(rows)
}

// minutes is how times are shown that are about right.
const minutes = "2006-01-02 15:04"

// waitingView shows what is waited for: all of it at first, and then how it gets
// less.
type waitingView struct {
	env  *Env
	told bool
}

func (v *waitingView) waiting(all []job.Waiting) {
	if len(all) == 0 {
		return
	}
	e := job.PendingError{Waiting: all}
	due := ""
	if at := e.Due(); !at.IsZero() {
		due = ", all of it by " + at.Local().Format(minutes) + " as a rule"
	}
	if v.told {
		v.env.Log.Info(fmt.Sprintf("Waiting for %s in cold storage%s", plural(len(all), "stream", "streams"), due))
		return
	}
	v.told = true
	v.env.Log.Info("In cold storage, and not readable yet" + due + ":")
	for _, line := range waitingLines(all) {
		v.env.Log.Info(line)
	}
}

// thawingRecord is how things stand with a stream that cannot be read yet, or, of
// thaw, with any.
type thawingRecord struct {
	Event  string          `json:"event,omitempty"` // "thawing"
	To     snapshot.ID     `json:"to"`
	From   snapshot.ID     `json:"from,omitzero"`
	Path   string          `json:"path"`
	Object string          `json:"object"`
	Bytes  int64           `json:"bytes"` // as it is stored
	Class  string          `json:"class"`
	State  store.ThawState `json:"state"` // "cold", "pending", "readable"
	Fresh  bool            `json:"fresh,omitempty"`
	Asked  time.Time       `json:"asked,omitzero"`
	Tier   store.Tier      `json:"tier,omitempty"`
	Until  time.Time       `json:"until,omitzero"`
	Due    time.Time       `json:"due,omitzero"` // when it is readable at the latest, as a rule
}

func recordOfThawing(t store.Thawing, due time.Time) thawingRecord {
	return thawingRecord{
		To: t.To, From: t.From, Path: validText(t.Path), Object: validText(t.Object), Bytes: t.Bytes, Class: className(t.Class),
		State: t.State, Fresh: t.Fresh, Asked: t.Asked, Tier: t.Tier, Until: t.Until, Due: due,
	}
}

// emitWaiting gives machines what is waited for.
func emitWaiting(emit func(any), all []job.Waiting) {
	for _, w := range all {
		r := recordOfThawing(w.Thawing, w.Due)
		r.Event = "thawing"
		emit(r)
	}
}

// explainPending says what to do about what cold storage has not given yet.
func explainPending(e *job.PendingError) error {
	return &exitError{
		code: exitPending, err: e,
		hint: "Run the same again then, here or elsewhere: it carries on, and nothing is asked for twice. --wait waits.",
	}
}

// explainCost says what to do about what costs too much.
func explainCost(e *job.CostError) error {
	text := fmt.Errorf("reading from %s (%s) costs an estimated %s, which is more than --max-cost %v", e.Source, e.Tier, money(e.Cost, e.Currency), e.Limit)
	hint := "Nothing was asked for. -n says what each --tier costs, and on what that rests."
	if e.Currency == "" {
		text = fmt.Errorf("what reading from %s costs cannot be told, since there are no prices for it, and --max-cost is given", e.Source)
		hint = "Nothing was asked for. --prices can name a list with prices for it; --max-cost 0 does without a limit."
	}
	return &exitError{code: exitConflict, err: &explained{text, e}, hint: hint}
}

// explained is an error in the words of the command line.
type explained struct {
	error
	cause error
}

func (e *explained) Unwrap() error { return e.cause }
