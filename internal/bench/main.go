// Command bench times buttersink against what one would run without it, and
// prints a table: `make bench`, which builds bin/buttersink first.
//
// Each row is a pair of commands that do the same work. They run in turn, A B A
// B, each time on file systems that have just been mounted, and what is compared
// are the medians. The rows are in rows.go, the data that they work on, which
// depend on nothing but this source, in data.go. buttersink's times include
// waiting until everything is on the disk; those of `btrfs receive`, which does
// not wait, end with the process.
//
// The file systems are sparse images in a directory of their own, mounted on
// loop devices in a mount namespace of their own: they are gone when the bench
// ends, however it ends. It takes root, and up to 15 GB below -dir.
//
//	go run ./internal/bench -quick
//	go run ./internal/bench -only increments -runs 9
//	go run ./internal/bench -markdown >table.md
//
// It does not fail when a target is missed, but it says so; it fails when a run
// fails.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"
)

// options are the flags.
type options struct {
	runs           int
	only           *regexp.Regexp
	quick          bool
	json, markdown bool
	dir            string
	program        string
	versitygw      string
	rclone         string
	toxiproxy      string
}

func main() {
	// A child dies with the thread that made it (Pdeathsig), so all of them are
	// made by this one.
	runtime.LockOSThread()
	if len(os.Args) > 1 && os.Args[1] == partVerb {
		if err := part(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.IntVar(&o.runs, "runs", 5, "how often each command runs; those of gigabytes three times at most")
	only := flag.String("only", "", "run only rows whose name matches `REGEXP`")
	flag.BoolVar(&o.quick, "quick", false, "leave out what takes minutes: the mixed sets, thousands of snapshots")
	flag.BoolVar(&o.json, "json", false, "print one JSON object a row")
	flag.BoolVar(&o.markdown, "markdown", false, "print the table of docs/performance.md")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where the images of the file systems go")
	flag.StringVar(&o.program, "program", "bin/buttersink", "the program to time")
	flag.StringVar(&o.versitygw, "versitygw", "bin/servers/versitygw", "the S3 server for archives")
	flag.StringVar(&o.rclone, "rclone", "bin/rivals/rclone", "what archives in S3 are compared with")
	flag.StringVar(&o.toxiproxy, "toxiproxy", "bin/servers/toxiproxy", "what makes a slow network")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err != nil || flag.NArg() > 0 || o.runs < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := o.run(); err != nil {
		// The other process has said by itself what it has to say.
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

func (o options) run() error {
	dir := os.Getenv(dirEnv)
	if dir == "" {
		return keep(o.dir)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	b, err := newBench(ctx, o, dir)
	if err != nil {
		return err
	}
	var results []outcome
	var failed []error
	for _, r := range b.rows() {
		if !o.only.MatchString(r.name) || o.quick && r.slow {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s...\n", r.name)
		found, err := b.measure(r)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			// The others are worth knowing all the same.
			failed = append(failed, fmt.Errorf("%s: %w", r.name, err))
			fmt.Fprintln(os.Stderr, "  failed:", err)
			continue
		}
		results = append(results, found)
		if o.json {
			if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
				return err
			}
		} else {
			fmt.Fprintln(os.Stderr, " ", found)
		}
	}
	if !o.json {
		printTable(os.Stdout, o.markdown, results)
	}
	return errors.Join(failed...)
}
