package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
)

// errors compares the sizes that ours said with those of the real streams.
func (b *bench) errors(s *set, protocol string) func(said []byte) (string, error) {
	return func(said []byte) (string, error) {
		if err := b.src.anew(); err != nil {
			return "", err
		}
		w := one(b.self, partVerb, "sizes", "real", protocol, b.source(""))
		w.listen = true
		c, err := do(b.ctx, w, nil)
		if err != nil {
			return "", err
		}
		sizes, real := strings.Fields(string(said)), strings.Fields(string(c.said))
		if len(sizes) != len(real) {
			return "", fmt.Errorf("%d sizes of %d streams", len(sizes), len(real))
		}
		worst, sum := 0.0, 0.0
		for i := range real {
			is, err1 := strconv.ParseFloat(real[i], 64)
			claimed, err2 := strconv.ParseFloat(sizes[i], 64)
			if err1 != nil || err2 != nil {
				return "", fmt.Errorf("%q and %q are not both sizes", real[i], sizes[i])
			}
			e := 100 * (claimed - is) / is
			sum += math.Abs(e)
			if math.Abs(e) > math.Abs(worst) {
				worst = e
			}
		}
		return fmt.Sprintf("error %.2f %% on average, %+.2f %% at worst", sum/float64(len(real)), worst), nil
	}
}

// String is an outcome in one line.
func (o outcome) String() string { return strings.Join(o.cells(), "  ") }

var header = []string{"what", "buttersink", "against", "takes", "ratio", "target", "CPU", "peak"}

func (o outcome) cells() []string {
	cells := []string{o.Name, seconds(o.Ours), o.Against, "", "", "", "", fmt.Sprintf("%.0f MiB", float64(o.Peak)/(1<<20))}
	if o.Theirs > 0 {
		cells[3], cells[4], cells[6] = seconds(o.Theirs), fmt.Sprintf("%.2f", o.Ratio), fmt.Sprintf("%.2f", o.CPURatio)
	}
	if o.Theirs == 0 && o.Ratio > 0 {
		cells[4] = fmt.Sprintf("%.2f", o.Ratio)
	}
	if o.Target > 0 {
		cells[5] = fmt.Sprintf("%.2f", o.Target)
		if o.seconds {
			cells[5] = seconds(o.Target)
		}
		if o.late {
			cells[5] += " missed"
		}
	}
	if o.large {
		cells[7] += " missed"
	}
	if o.Note != "" {
		cells[0] += ": " + o.Note
	}
	return cells
}

// printTable prints all outcomes, and on which machine they are from.
func printTable(w io.Writer, markdown bool, outcomes []outcome) {
	if markdown {
		fmt.Fprintf(w, "%s\n\n", machine())
		fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
		for _, o := range outcomes {
			cells := o.cells()
			for i := range cells {
				cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
			}
			fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		}
		return
	}
	fmt.Fprintln(w, machine())
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, strings.Join(header, "\t"))
	for _, o := range outcomes {
		fmt.Fprintln(columns, strings.Join(o.cells(), "\t"))
	}
	columns.Flush()
}

// machine says what the times are from.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	progs, _ := exec.Command("btrfs", "--version").Output()
	return fmt.Sprintf("%s, %d CPUs, Linux %s, %s, %s", model, runtime.NumCPU(),
		bytes.TrimSpace(kernel), bytes.TrimSpace(progs), runtime.Version())
}
