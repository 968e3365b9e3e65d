package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // where the machine has no zones of its own

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/schedule"
)

// rulesFlag is a flag whose value is retention rules.
type rulesFlag struct {
	rules schedule.Rules
	given string // as it was typed; empty if it was not
}

func (f *rulesFlag) String() string { return f.given }
func (f *rulesFlag) Type() string   { return "RULES" }

// Set takes what was typed.
func (f *rulesFlag) Set(text string) error {
	rules, err := schedule.ParseRules(text)
	if err != nil {
		return err
	}
	f.rules, f.given = rules, text
	return nil
}

// in returns the rules with a zone for those that name none.
func in(rules schedule.Rules, zone *time.Location) schedule.Rules {
	if rules.Zone == nil {
		rules.Zone = zone
	}
	return rules
}

// zoneOf is where the times in names are told.
func zoneOf(utc bool) *time.Location {
	if utc {
		return time.UTC
	}
	return time.Local
}

// destinationRules are the values of --dest-keep: rules for one destination, or,
// under "", for all that have none of their own.
type destinationRules struct {
	rules map[string]schedule.Rules
	order []string
}

func (f *destinationRules) String() string { return "" }
func (f *destinationRules) Type() string   { return "RULES" }

// Set takes what was typed: [DESTINATION=]RULES. There is no "=" in rules.
func (f *destinationRules) Set(text string) error {
	destination := ""
	rules := text
	if i := strings.LastIndexByte(text, '='); i >= 0 {
		destination, rules = text[:i], text[i+1:]
		if destination == "" {
			return errors.New("there is no destination before the =")
		}
	}
	parsed, err := schedule.ParseRules(rules)
	if err != nil {
		return err
	}
	if _, twice := f.rules[destination]; twice {
		return fmt.Errorf("there are rules for %s already", map[bool]string{true: "all destinations", false: destination}[destination == ""])
	}
	if f.rules == nil {
		f.rules = map[string]schedule.Rules{}
	}
	f.rules[destination] = parsed
	f.order = append(f.order, destination)
	return nil
}

// keepRules are the flags of prune that say what is kept.
type keepRules struct {
	keep rulesFlag
	some []string // rules of their own flags, as ParseRules reads them
}

// keepRule is one flag that stands for one rule.
type keepRule struct {
	all  *keepRules
	rule string
}

func (f *keepRule) String() string { return "" }
func (f *keepRule) Type() string {
	return map[bool]string{true: "AGE", false: "N"}[f.rule == "min-age"]
}

// Set takes what was typed.
func (f *keepRule) Set(text string) error {
	if f.rule != "min-age" && text != "all" {
		if n, err := strconv.Atoi(text); err != nil || n < 1 {
			return errors.New("want 1 or more, or all")
		}
	}
	one := f.rule + ":" + text
	if _, err := schedule.ParseRules(one); err != nil {
		return err
	}
	f.all.some = append(f.all.some, one)
	return nil
}

// keepRulesOf gives a command the flags that say what is kept.
func keepRulesOf(cmd *cobra.Command, o *keepRules) {
	f := cmd.Flags()
	f.Var(&o.keep, "keep", "all rules at once, as in last:3,daily:7,monthly:12")
	f.Var(&keepRule{o, "last"}, "keep-last", "keep the newest `N`; here and below, all is no limit")
	for _, r := range []struct{ flag, rule, period string }{
		{"keep-hourly", "hourly", "hours"},
		{"keep-daily", "daily", "days"},
		{"keep-weekly", "weekly", "weeks"},
		{"keep-monthly", "monthly", "months"},
		{"keep-yearly", "yearly", "years"},
	} {
		f.Var(&keepRule{o, r.rule}, r.flag, "keep the newest one of each of the newest `N` "+r.period+" that have any")
	}
	f.Var(&keepRule{o, "min-age"}, "keep-within", "keep whatever is younger than `AGE` (36h, 30d, 8w)")
}

// rules are what was asked for.
func (o *keepRules) rules(command string) (schedule.Rules, error) {
	if o.keep.given != "" && len(o.some) > 0 {
		name, _, _ := strings.Cut(o.some[0], ":")
		return schedule.Rules{}, usagef(command, "--keep has all rules in it: write %s:... there", name)
	}
	rules := o.keep.rules
	if len(o.some) > 0 {
		var err error
		if rules, err = schedule.ParseRules(strings.Join(o.some, ",")); err != nil {
			return schedule.Rules{}, &usageError{command: command, err: err}
		}
	}
	return rules, nil
}
