package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/stream"
)

// newStream returns the commands that look into send streams.
func newStream(env *Env) *cobra.Command {
	return newGroup("stream", "Look into send streams",
		`Looks into btrfs send streams, as "btrfs send" writes them and as buckets and
files keep them: versions 1, 2 and 3, full and incremental. None of this takes
root, a btrfs, or any other program.`,
		newStreamDump(env), newStreamVerify(env))
}

func newStreamDump(env *Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "dump [flags] FILE",
		Short: "Print the commands of a send stream",
		Long: `Prints the commands of a send stream, one a line, with the facts and in the form
of "btrfs receive --dump" (times in UTC). With --json each line is an object
that holds everything but the file data.

Before: FILE is a send stream; "-" is standard input. It takes no root.

After: nothing has changed. What was good is printed also when the stream turns
out to be bad; then the place is named and the exit code is 1.`,
		Example: `  buttersink stream dump monday.stream
  btrfs send -q /mnt/a/snaps/monday | buttersink stream dump - | head`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd.CommandPath(), "want one file, or - for standard input; got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.untilReaderLeaves(dumpStream(cmd.Context(), env, args[0], asJSON))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func dumpStream(ctx context.Context, env *Env, file string, asJSON bool) error {
	in, err := openInput(ctx, env, file)
	if err != nil {
		return err
	}
	defer in.Close()
	dump := stream.Dump
	if asJSON {
		dump = stream.DumpJSON
	}
	err = dump(env.Stdout, stream.NewReader(in))
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", inputName(file), err)
	}
	return err
}

func newStreamVerify(env *Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [flags] FILE...",
		Short: "Tell whether send streams are whole and undamaged",
		Long: `Reads send streams to their ends and gives one of three verdicts on each:

  ok             whole: one header, every command well-formed and with the right
                 checksum, an END, and nothing behind it
  bad            damaged or cut short, with the place: number and kind of the
                 command, the path it concerns, and its offset in the stream
  could not read no verdict, because reading failed

and says how much was read. That a stream is ok does not say that its parent is
at hand, or that it is the stream that somebody meant to keep.

Before: each FILE is a send stream; "-" is standard input. It takes no root.

After: nothing has changed. The exit code is 0 if all are ok, otherwise 1.`,
		Example: `  buttersink stream verify monday.stream tuesday.stream
  zstd -dc monday.stream.zst | buttersink stream verify --json -`,
		Args: func(cmd *cobra.Command, args []string) error {
			stdin := 0
			for _, a := range args {
				if a == "-" {
					stdin++
				}
			}
			switch {
			case len(args) == 0:
				return usagef(cmd.CommandPath(), "name at least one file, or - for standard input")
			case stdin > 1:
				return usagef(cmd.CommandPath(), "standard input can be read only once")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return verifyStreams(cmd.Context(), env, args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object for each file")
	return cmd
}

func verifyStreams(ctx context.Context, env *Env, files []string, asJSON bool) error {
	bad, unread := 0, 0
	for _, file := range files {
		v := verifyStream(ctx, env, file)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch v.Verdict {
		case verdictBad:
			bad++
		case verdictUnread:
			unread++
		}
		var err error
		if asJSON {
			err = json.NewEncoder(env.Stdout).Encode(v)
		} else {
			_, err = fmt.Fprintln(env.Stdout, v)
		}
		if err != nil {
			return err
		}
	}
	var complaints []string
	if bad > 0 {
		complaints = append(complaints, plural(bad, "stream is bad", "streams are bad"))
	}
	if unread > 0 {
		complaints = append(complaints, plural(unread, "stream could not be read", "streams could not be read"))
	}
	if len(complaints) > 0 {
		return errors.New(strings.Join(complaints, ", "))
	}
	return nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

const (
	verdictOK     = "ok"
	verdictBad    = "bad"
	verdictUnread = "could not read"
)

// streamVerdict is what verify says about one file. The names are a promise to
// programs that read --json.
type streamVerdict struct {
	File    jsonText `json:"file"`
	Verdict string   `json:"verdict"`

	// What was read and found good.
	Commands  int64 `json:"commands"`
	Bytes     int64 `json:"bytes"`
	DataBytes int64 `json:"data_bytes"`
	Files     int64 `json:"files"`
	Dirs      int64 `json:"dirs"`
	Clones    int64 `json:"clones"`

	// What the first command says, where it could be read.
	Name          jsonText    `json:"name,omitzero"`
	UUID          snapshot.ID `json:"uuid,omitzero"`
	Transid       uint64      `json:"transid,omitzero"`
	Parent        snapshot.ID `json:"parent_uuid,omitzero"`
	ParentTransid uint64      `json:"parent_transid,omitzero"`

	// Why it is not ok, and for a bad one the place.
	Error string       `json:"error,omitzero"`
	Place *streamPlace `json:"place,omitempty"`
}

// streamPlace is where a stream is bad. Command 0 is the header.
type streamPlace struct {
	Command int64    `json:"command"`
	Kind    string   `json:"kind,omitzero"`
	Path    jsonText `json:"path,omitzero"`
	Offset  int64    `json:"offset"`
}

// jsonText is a text that may hold any bytes. Those that are not UTF-8 are
// shown as printable shows them, because JSON cannot hold them.
type jsonText string

func (t jsonText) MarshalJSON() ([]byte, error) {
	s := string(t)
	if !utf8.ValidString(s) {
		s = printable(s)
	}
	return json.Marshal(s)
}

func verifyStream(ctx context.Context, env *Env, file string) *streamVerdict {
	v := &streamVerdict{File: jsonText(file), Verdict: verdictOK}
	in, err := openInput(ctx, env, file)
	if err != nil {
		v.Verdict, v.Error = verdictUnread, err.Error()
		return v
	}
	defer in.Close()
	watch := env.newWatch(inputName(file), lengthOf(file))
	stats, id, err := stream.Verify(watched{in, watch})
	watch.close()
	v.Commands, v.Bytes, v.DataBytes = stats.Commands, stats.Bytes, stats.DataBytes
	v.Files, v.Dirs, v.Clones = stats.Files, stats.Dirs, stats.Clones
	v.Name, v.UUID, v.Transid = jsonText(id.Path), snapshot.ID(id.UUID), id.Transid
	v.Parent, v.ParentTransid = snapshot.ID(id.Parent), id.ParentTransid
	if err == nil {
		return v
	}
	v.Verdict, v.Error = verdictUnread, err.Error()
	if e, ok := errors.AsType[*stream.Error](err); ok {
		v.Verdict, v.Error = verdictBad, e.Err.Error()
		v.Place = &streamPlace{Command: e.Number, Path: jsonText(e.Path), Offset: e.Offset}
		if e.Kind != 0 {
			v.Place.Kind = e.Kind.String()
		}
	}
	return v
}

// String is the verdict as one line for people.
func (v *streamVerdict) String() string {
	b := printable(inputName(string(v.File))) + ": " + v.Verdict
	if p := v.Place; p != nil {
		where := "the header"
		if p.Command > 0 {
			where = fmt.Sprintf("command %d", p.Command)
			if p.Kind != "" {
				where += " (" + p.Kind + ")"
			}
			where += fmt.Sprintf(" at byte %d", p.Offset)
			if p.Path != "" {
				where += fmt.Sprintf(", near %q", string(p.Path))
			}
		}
		b += ": " + where
	}
	if v.Error != "" {
		b += ": " + printable(v.Error)
	}
	read := plural(int(v.Commands), "command", "commands") + ", " + meter.Bytes(v.Bytes)
	switch {
	case v.Verdict != verdictOK && v.Bytes == 0:
		return b
	case v.Verdict != verdictOK:
		return b + "; good before that: " + read
	}
	b += fmt.Sprintf(": read %s, %s; ", read, plural(int(v.Files), "file", "files"))
	if v.Parent.IsZero() {
		return b + fmt.Sprintf("full stream of %s %s/%d", printable(string(v.Name)), v.UUID, v.Transid)
	}
	return b + fmt.Sprintf("stream of %s %s/%d from %s/%d", printable(string(v.Name)), v.UUID, v.Transid, v.Parent, v.ParentTransid)
}

func inputName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// lengthOf is the length of a regular file.
func lengthOf(file string) snapshot.Size {
	if info, err := os.Stat(file); err == nil && file != "-" && info.Mode().IsRegular() {
		return snapshot.ExactSize(info.Size())
	}
	return snapshot.Size{}
}

// openInput opens a file, or standard input for "-". Reading ends when ctx
// does.
func openInput(ctx context.Context, env *Env, file string) (io.ReadCloser, error) {
	if file == "-" {
		return &cancelReader{ctx: ctx, r: env.Stdin}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	return &cancelReader{ctx: ctx, r: f, close: f.Close}, nil
}

// cancelReader gives up waiting for its reader when ctx ends. The reader may
// then still be at work on the buffer of the last Read, so nothing in it is of
// use any more.
type cancelReader struct {
	ctx   context.Context
	r     io.Reader
	close func() error
}

func (c *cancelReader) Read(p []byte) (n int, err error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	done := make(chan struct{})
	var got int
	var failed error
	go func() {
		defer close(done)
		got, failed = c.r.Read(p)
	}()
	select {
	case <-done:
		return got, failed
	case <-c.ctx.Done():
		return 0, context.Cause(c.ctx)
	}
}

func (c *cancelReader) Close() error {
	if c.close == nil {
		return nil
	}
	return c.close()
}
