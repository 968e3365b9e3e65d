package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// The exit codes of every command. The numbers are a promise to scripts.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitConfig      = 3
	exitPartly      = 4
	exitPending     = 5
	exitConflict    = 6
	exitLocked      = 7
	exitInterrupted = 130
)

// exitCodes is the table behind `buttersink help exit-codes`.
var exitCodes = []struct {
	code    int
	name    string
	meaning string
}{
	{exitDone, "done", "everything that was asked for is done"},
	{exitFailed, "failed", "nothing could be done, or a stream or file is bad"},
	{exitUsage, "usage", "the command line is wrong; nothing was begun"},
	{exitConfig, "config", "the configuration is wrong, or a file or program that it names is missing or not safe; nothing was begun"},
	{exitPartly, "partly done", "some steps are done, others failed"},
	{exitPending, "pending", "nothing failed, but something has to be waited for: run it again later"},
	{exitConflict, "conflict", "what is at the destination contradicts what should be put there, a full stream is longer than --max-full, reading costs more than --max-cost, or rules would remove too much at once"},
	{exitLocked, "locked", "another run is at work on the same source or destination"},
	{exitInterrupted, "interrupted", "a signal ended the run; the next run carries on"},
}

// exitCodesHelp is the text of the help topic.
func exitCodesHelp() string {
	var b strings.Builder
	b.WriteString("Every command ends with one of these exit codes:\n\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&b, "  %3d  %-12s %s\n", c.code, c.name, c.meaning)
	}
	b.WriteString("\nMessages go to standard error, as \"ERROR: message.\"")
	return b.String()
}

// exitError carries an exit code, and what to do about it, with an error.
type exitError struct {
	code int
	err  error
	hint string // for people, on the line below; may be empty
	told bool   // somebody has been told already: only the log file gets it
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError says that the command line is wrong.
type usageError struct {
	command string // of which --help is to be asked
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef returns an error that ends the command with the exit code for a wrong
// command line, and points to the help of the command, given by its full name.
func usagef(command, format string, args ...any) error {
	return &usageError{command: command, err: fmt.Errorf(format, args...)}
}

// A verdict is what an error means for the process and for people.
type verdict struct {
	code int
	hint string
}

// verdicts are asked in order; the first that knows the error decides on the
// code, and the first that has a hint gives it.
var verdicts = []func(error) (verdict, bool){
	onType(func(e *exitError) verdict { return verdict{e.code, e.hint} }),
	onType(func(e *usageError) verdict {
		return verdict{exitUsage, "Try '" + e.command + " --help'."}
	}),
	onType(func(*config.Trouble) verdict { return verdict{exitConfig, ""} }),
	onValue(context.Canceled, verdict{exitInterrupted, ""}),
	onType(func(e *store.LockedError) verdict {
		return verdict{exitLocked, "Nothing was done. Try again when the other run has ended."}
	}),
	onType(func(e *store.ExistsError) verdict {
		return verdict{exitConflict, "Nothing is ever overwritten. Move it out of the way, or choose another destination."}
	}),
	onType(func(e *store.ParentError) verdict {
		if e.Path == "" {
			return verdict{exitConflict, "The next run plans without it."}
		}
		return verdict{exitConflict, "An increment cannot start from it. Remove it, or choose another destination, and the snapshot is sent whole."}
	}),
	onType(func(e *btrfs.PermissionError) verdict {
		return verdict{exitFailed, "Run it as root, or give it the capability " + e.Capability + "."}
	}),
	onType(func(e *archive.ColdError) verdict {
		return verdict{exitPending, "'buttersink thaw' asks for it; run this again when it can be read."}
	}),
	onType(func(e *store.PendingError) verdict {
		return verdict{exitPending, "Run the same again then: it goes on, and nothing is asked for twice."}
	}),
	onValue(store.ErrCold, verdict{exitPending, "Run the same again later."}),
	onType(func(e *archive.DeniedError) verdict {
		if strings.HasPrefix(e.Bucket, "s3://") {
			return verdict{exitFailed, "Whose credentials are these?  'aws sts get-caller-identity' tells; docs/s3.md has what each command has to be allowed."}
		}
		return verdict{exitFailed, "Run it as who owns the directory, or as root."}
	}),
	onType(func(*ssh.ModeError) verdict {
		return verdict{exitFailed, "What is allowed there is said there, in authorized_keys or sudoers: 'buttersink help server' explains the modes."}
	}),
	onValue(dial.ErrSudo, verdict{exitFailed, "'buttersink help server' has the lines for sudoers, docs/security.md those of ssh+btrfs://; --ssh-sudo=never does without sudo."}),
	onValue(ssh.ErrOld, verdict{exitFailed, "Or write ssh+btrfs:// in place of ssh://, which needs only btrfs and a shell there."}),
	onValue(btrfs.ErrNotBtrfs, verdict{exitFailed, "Is the file system mounted?"}),
}

func onType[E error](judge func(E) verdict) func(error) (verdict, bool) {
	return func(err error) (verdict, bool) {
		if e, ok := errors.AsType[E](err); ok {
			return judge(e), true
		}
		return verdict{}, false
	}
}

func onValue(target error, v verdict) func(error) (verdict, bool) {
	return func(err error) (verdict, bool) { return v, errors.Is(err, target) }
}

func judge(err error) verdict {
	if err == nil {
		return verdict{code: exitDone}
	}
	answer, known := verdict{code: exitFailed}, false
	for _, v := range verdicts {
		switch found, ok := v(err); {
		case ok && !known:
			answer, known = found, true
		case ok && answer.hint == "":
			answer.hint = found.hint
		}
	}
	return answer
}

// report prints an error the only time that it is printed, and returns the exit
// code.
func (env *Env) report(err error) int {
	v := judge(err)
	if err == nil {
		return v.code
	}
	x, ok := errors.AsType[*exitError](err)
	told := ok && x.told
	for _, e := range flatten(err) {
		if p, ok := e.(*config.Problem); ok {
			env.reportProblem(p, told)
			continue
		}
		text := printable(place.Redact(strings.TrimSpace(e.Error())))
		if !told {
			fmt.Fprintf(env.console, "%s\n", paint(env, slog.LevelError, "ERROR:")+" "+sentence(text))
		}
		if env.file != nil {
			slog.New(env.file).Error(text)
		}
	}
	if v.hint != "" && !told {
		io.WriteString(env.console, printable(v.hint)+"\n")
	}
	return v.code
}

// flatten returns the errors that were joined to err.
func flatten(err error) []error {
	if e, ok := err.(*exitError); ok {
		return flatten(e.err)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	var texts []string
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
		texts = append(texts, e.Error())
	}
	if err.Error() != strings.Join(texts, "\n") { // not errors.Join, but a sentence of its own
		return []error{err}
	}
	return all
}

// sentence ends a message with exactly one mark.
func sentence(s string) string {
	s = strings.TrimRight(s, ". \t")
	if strings.HasSuffix(s, "?") || strings.HasSuffix(s, "!") {
		return s
	}
	return s + "."
}
