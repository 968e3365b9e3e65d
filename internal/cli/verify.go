package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	data, dryRun, json bool
	exclude, identity  []string
	s3                 s3Flags
	limit              rateFlag
}

var verifyGroups = []flagGroup{
	{"Flags", []string{"data", "dry-run", "exclude", "help", "identity", "json"}},
	{"S3", []string{"s3-endpoint", "s3-path-style", "limit"}},
}

// newVerify returns the command that tells whether an archive is sound.
func newVerify(env *Env) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [flags] URL",
		Short: "Tell whether an archive can give back what it holds",
		Long: `verify looks at an archive, or at one snapshot in it (without a slash at the end),
and gives one of three verdicts on each stream, and on each snapshot, which needs
a whole chain of streams:

  sound      all that was looked at is as it should be
  damaged    it is not what was stored, or something is missing
  unchecked  it could not be looked at: no permission, no key, cold storage

Without --data it compares what the listing says with the descriptions beside the
streams, and looks for a chain to every snapshot. With --data it reads every stream
from its first byte to its last, opens it, and checks every digest and every
checksum in it; in S3 that costs what a download costs.

Before: URL is dir:///path/ or s3://bucket/prefix/, and you may read there. With
--data, what is encrypted needs its key (--identity, or gpg's own).

After: what is not sound is on standard output, with the counts. The exit code is 0
if everything is sound, 1 if anything is damaged, and otherwise 4 if anything could
not be checked. With --data, streams that had no description (those of ButterSink)
have got one, unless -n is given or it cannot be written.`,
		Example: `  buttersink verify s3://bucket/snaps/
  buttersink verify --data --identity /root/backup.key s3://bucket/snaps/
  buttersink verify --data dir:///mnt/usb/snaps/monday
  buttersink verify --json s3://bucket/snaps/`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd.CommandPath(), "want one archive, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVerify(cmd.Context(), env, cmd.CommandPath(), &o, args[0])
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.data, "data", false, "read every stream, and check all of it")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "write nothing, also no missing descriptions")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line, for what is sound too")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out snapshots whose path matches `REGEX` at its start; may be repeated")
	identityFlag(cmd, &o.identity)
	s3FlagsOf(cmd, &o.s3)
	limitFlag(cmd, &o.limit)
	groupFlags(cmd, verifyGroups)
	return cmd
}

func runVerify(ctx context.Context, env *Env, command string, o *verifyOptions, url string) error {
	p, err := env.placeOf(command, url, false)
	if err != nil {
		return err
	}
	exclude, err := patterns(command, o.exclude)
	if err != nil {
		return err
	}
	if o.limit.given != "" && p.Scheme != "s3" {
		return usagef(command, "--limit is only for s3://")
	}
	in := opening{s3: o.s3, limit: pace.New(o.limit.bytes)}
	if o.data {
		if in.archive.Keys, err = env.keys(p.identities(o.identity)); err != nil {
			return p.inTrouble("identity", p.identities(o.identity), err)
		}
	} else if len(o.identity) > 0 {
		return usagef(command, "--identity is only for --data: without that nothing is opened")
	}
	const scrub = "there 'btrfs scrub start' checks what is on the disks"
	st, err := env.openArchive(ctx, command, p, scrub, in)
	if err != nil {
		return err
	}
	defer st.Close()

	view := newVerifyView(env, o.json)
	defer view.close()
	engine := &job.Engine{Log: env.Log}
	report, err := engine.Verify(ctx, st.Store, job.VerifyOptions{
		Selection: job.Selection{Name: st.Name, Exclude: exclude},
		Data:      o.data, DryRun: o.dryRun, Found: view.found, Progress: view.progress,
	})
	view.close()
	if e, ok := errors.AsType[*job.NoSnapshotsError](err); ok {
		return &exitError{code: exitFailed, err: err, hint: st.noSnapshots(e.There)}
	}
	if err == nil {
		err = explainVerification(report)
	}
	if report != nil {
		view.result(report, o.data, err)
	}
	return errors.Join(err, view.out.err)
}

// explainVerification is the error that a report stands for, nil if everything
// is sound.
func explainVerification(r *store.Verification) error {
	streams, snaps := r.Streams[store.Damaged], r.Snapshots[store.Damaged]
	open, openSnaps := r.Streams[store.Unchecked], r.Snapshots[store.Unchecked]
	switch {
	case streams+snaps > 0:
		return &exitError{
			code: exitFailed,
			err:  fmt.Errorf("damaged: %s", countedText(streams, snaps)),
			hint: "Move away damaged streams that are there; the next sync stores again what the source still has.",
		}
	case open+openSnaps > 0:
		return &exitError{
			code: exitPartly,
			err:  fmt.Errorf("could not be checked: %s", countedText(open, openSnaps)),
			hint: "They may be sound or not; the reasons are above.",
		}
	}
	return nil
}

// countedText is "2 streams, 1 snapshot"; what there is none of is left out.
func countedText(streams, snaps int) string {
	var each []string
	if streams > 0 {
		each = append(each, plural(streams, "stream", "streams"))
	}
	if snaps > 0 {
		each = append(each, plural(snaps, "snapshot", "snapshots"))
	}
	return strings.Join(each, ", ")
}

// verifyView shows people or machines what verify finds.
type verifyView struct {
	env  *Env
	json bool
	out  *records
	bars *bars // nil unless drawn

	mu       sync.Mutex
	read, of int64
	pace     meter.Tempo
	told     time.Time
	bad      int
	later    strings.Builder // lines that would have gone into a drawing
}

func newVerifyView(env *Env, asJSON bool) *verifyView {
	v := &verifyView{env: env, json: asJSON, out: newRecords(env.Stdout)}
	if !asJSON && env.quiet == 0 && env.canDraw() {
		v.bars = newBars(env, v.rows)
	}
	return v
}

// close ends the drawing, and says what had to wait for that.
func (v *verifyView) close() {
	v.bars.close()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.later.Len() > 0 {
		io.WriteString(v.env.Stdout, v.later.String()) // env.Stdout keeps the error
		v.later.Reset()
	}
}

// findingRecord is what was found out about a stream, or about a snapshot.
type findingRecord struct {
	Event   string        `json:"event"` // "stream" or "snapshot"
	Verdict store.Verdict `json:"verdict"`
	To      snapshot.ID   `json:"to"`
	From    snapshot.ID   `json:"from,omitzero"`
	Path    string        `json:"path"`
	Key     string        `json:"key,omitempty"`
	Why     string        `json:"why,omitempty"`
	Read    int64         `json:"read,omitzero"`
}

func (v *verifyView) found(f store.Finding) {
	if v.json {
		kind := "stream"
		if f.Object == "" {
			kind = "snapshot"
		}
		v.out.put(findingRecord{
			Event: kind, Verdict: f.Verdict, To: f.Edge.To, From: f.Edge.From, Path: validText(f.Path), Key: validText(f.Object),
			Why: place.Redact(validText(f.Why)), Read: f.Read,
		})
		return
	}
	if f.Verdict == store.Sound {
		return
	}
	what := "snapshot " + f.Path
	if f.Object != "" {
		what = f.Object
	}
	line := fmt.Sprintf("%-9s  %s: %s\n", f.Verdict, printable(what), printable(place.Redact(f.Why)))
	v.mu.Lock()
	defer v.mu.Unlock()
	v.bad++
	if v.bars != nil {
		v.later.WriteString(line)
		return
	}
	io.WriteString(v.env.Stdout, line)
}

func (v *verifyView) progress(read, of int64) {
	if v.json {
		return
	}
	now := v.env.Now()
	v.mu.Lock()
	if v.told.IsZero() {
		v.told = now
	}
	v.pace.Add(now, max(read-v.read, 0))
	v.read, v.of = read, of
	line := ""
	if v.bars == nil && now.Sub(v.told) >= plainEvery {
		v.told = now
		line = v.line(now)
	}
	v.mu.Unlock()
	v.bars.show()
	if line != "" && v.env.quiet == 0 {
		v.env.Log.Info(line)
	}
}

// line says how far it is.
func (v *verifyView) line(now time.Time) string {
	whole := snapshot.Size{Bytes: v.of, Known: v.of > 0, Exact: true}
	text := "Read " + meter.Amount(v.read, whole, v.pace.Rate(now), v.pace.Lasts(now))
	if v.bad > 0 {
		text += fmt.Sprintf("; %d not sound", v.bad)
	}
	return text
}

func (v *verifyView) rows(width int) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return []string{withBar(v.line(v.env.Now()), v.read, snapshot.Size{Bytes: v.of, Known: v.of > 0, Exact: true}, width)}
}

// verificationRecord is the last record of verify.
type verificationRecord struct {
	Event     string                `json:"event"` // "verified"
	OK        bool                  `json:"ok"`
	Exit      int                   `json:"exit"`
	Data      bool                  `json:"data"`
	Streams   map[store.Verdict]int `json:"streams"`
	Snapshots map[store.Verdict]int `json:"snapshots"`
	Read      int64                 `json:"read"`
	ReadWhole int                   `json:"read_whole"`
	Described int                   `json:"described"`
	// Undescribed counts streams of which only the listing, or what is in them, was
	// looked at.
	Undescribed int    `json:"undescribed"`
	Error       string `json:"error,omitempty"`
}

// result writes what verify has counted.
func (v *verifyView) result(r *store.Verification, data bool, err error) {
	if v.json {
		v.out.put(verificationRecord{
			Event: "verified", OK: err == nil, Exit: judge(err).code, Data: data, Streams: allVerdicts(r.Streams), Snapshots: allVerdicts(r.Snapshots),
			Read: r.Read, ReadWhole: r.ReadWhole, Described: r.Described, Undescribed: r.Undescribed, Error: errorText(err),
		})
		return
	}
	text := countsText("stream", r.Streams) + countsText("snapshot", r.Snapshots)
	if data {
		text += fmt.Sprintf("read %s, %s from the first byte to the last\n", meter.Bytes(r.Read), plural(r.ReadWhole, "stream", "streams"))
	} else {
		text += "read only listings and descriptions; --data reads the streams\n"
	}
	if r.Described > 0 {
		text += plural(r.Described, "stream that had no description has", "streams that had no description have") + " got one\n"
	}
	if r.Undescribed > 0 {
		proof := "only that it is there"
		if data {
			proof = "only what is in it"
		}
		text += plural(r.Undescribed, "stream has", "streams have") + " no description: " + proof + " speaks for each\n"
	}
	io.WriteString(v.env.Stdout, text)
}

// allVerdicts are counts with every verdict, also where it has none.
func allVerdicts(counts map[store.Verdict]int) map[store.Verdict]int {
	all := map[store.Verdict]int{}
	for _, v := range []store.Verdict{store.Sound, store.Damaged, store.Unchecked} {
		all[v] = counts[v]
	}
	return all
}

// countsText is "12 streams: 11 sound, 1 damaged".
func countsText(what string, counts map[store.Verdict]int) string {
	total := 0
	var each []string
	for _, v := range []store.Verdict{store.Sound, store.Damaged, store.Unchecked} {
		total += counts[v]
		if counts[v] > 0 {
			each = append(each, fmt.Sprintf("%d %s", counts[v], v))
		}
	}
	if total == 0 {
		return "no " + what + "s\n"
	}
	return plural(total, what, what+"s") + ": " + strings.Join(each, ", ") + "\n"
}
