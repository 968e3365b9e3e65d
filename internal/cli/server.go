package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/ssh"
)

// serverHelp is the text of the help topic.
const serverHelp = `buttersink --server --mode MODE /path/to/dir/

is what a buttersink runs on the far side of ssh://, in the form in which
ButterSink ran it. It talks to the other one over standard input and output
(docs/protocol.md), serves this one btrfs directory, and ends when the input does.
Nobody types it, but it stands in sudoers and authorized_keys files:

  # /etc/sudoers.d/buttersink: log in as keeper, who may only do this as root
  keeper ALL=(root) NOPASSWD: /usr/local/bin/buttersink --server --mode a /mnt/b/snaps/

  # ~/.ssh/authorized_keys: this key may do this and nothing else
  restrict,command="sudo buttersink --server --mode a /mnt/b/snaps/" ssh-ed25519 AAAA...

MODE says what the other side may do. The server sees to it by itself, whatever
the other side says:

  r  list, measure, and read snapshots: for pulling from here, and for dry runs
  a  also add snapshots where there is nothing; no removing, no overwriting
  w  also remove snapshots and unfinished transfers: for --delete

A push asks for a, with --delete for w; a dry run, a listing and a pull ask for r. A
forced command may allow more than is asked for; if it allows less, the session is
refused, and nothing has changed. A sudoers line holds for the mode that it names,
so dry runs and listings take one with r besides.

The directory is written in full, without "." and "..", so that a rule for one
directory is not stretched to others. It needs no terminal, no home directory and
no log service; messages go to standard error, which the other side shows, and to
--logfile FILE if the command has that. docs/security.md has the whole picture.

The exit code is 0 if the other side has ended the session, 1 if it was refused or
broken.`

// serverFlags are the hidden flags of the program that make it the far side of
// an ssh:// store.
type serverFlags struct {
	server bool
	mode   string
}

// serverFlagsOf gives the program the flags of a server.
func serverFlagsOf(cmd *cobra.Command, o *serverFlags) {
	f := cmd.Flags()
	f.BoolVar(&o.server, "server", false, "")
	f.StringVar(&o.mode, "mode", "", "")
	f.Lookup("server").Hidden, f.Lookup("mode").Hidden = true, true
}

// serverUsagef returns an error about the command line of a server, which no
// --help shows.
func serverUsagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...), hint: "Try 'buttersink help server'."}
}

// check says what is wrong with the command line of a server.
func (o *serverFlags) check(args []string) (ssh.Mode, error) {
	if len(args) != 1 {
		return "", serverUsagef("--server wants one directory, got %d arguments", len(args))
	}
	if o.mode == "" {
		return "", serverUsagef("--server goes with --mode r, a or w")
	}
	mode, err := ssh.ParseMode(o.mode)
	if err != nil {
		return "", serverUsagef("--mode: %w", err)
	}
	dir := args[0]
	clean := filepath.Clean(dir)
	if !filepath.IsAbs(dir) {
		return "", serverUsagef("--server wants the full path of the directory, not %q", dir)
	}
	if dir != clean && dir != clean+"/" {
		return "", serverUsagef("--server wants the directory as %s/, not as %s: rules for one directory are not stretched to others", clean, dir)
	}
	return mode, nil
}

// runServer serves a directory to the other side of standard input and output.
// Odd is a flag that was given and is none of a server's, "" for none.
func runServer(ctx context.Context, env *Env, o *serverFlags, odd string, args []string) error {
	mode, err := o.check(args)
	if err != nil {
		return err
	}
	if odd != "" {
		return serverUsagef("--%s has no effect there: --server goes with --mode, --quiet and --logfile", odd)
	}
	if env.StdinIsTerminal {
		return serverUsagef("--server is not for people: it is the far side of a transfer, started by buttersink on another machine, and not from a terminal")
	}
	dir := filepath.Clean(args[0])
	err = ssh.Serve(ctx, env.Stdin, env.Stdout, ssh.ServeOptions{
		Mode: mode, Dir: dir, Program: versionText(), Log: env.Log,
		Open: func(_ context.Context, w ssh.Wishes) (store.Store, error) {
			st, err := local.Open(dir, local.Options{
				Protocol: w.Protocol, KernelSend: w.KernelSend, Plain: w.Plain,
				Checkpoints: replay.Checkpoints{Bytes: w.CheckpointBytes, Every: w.CheckpointEvery},
				Log:         env.Log,
			})
			if err != nil {
				return nil, explainServed(dir, err)
			}
			return st, nil
		},
	})
	if errors.Is(err, ssh.ErrRefused) {
		// The other side says it, and shows what is printed here as well.
		return &exitError{code: exitFailed, err: err, told: !env.StderrIsTerminal}
	}
	return err
}

// explainServed says what to do about a directory that cannot be served: hints
// do not cross the wire.
func explainServed(dir string, err error) error {
	if _, ok := errors.AsType[*btrfs.PermissionError](err); ok {
		return fmt.Errorf("%w; log in as root, or allow the user to run 'sudo buttersink --server' and give --ssh-sudo", err)
	}
	switch {
	case errors.Is(err, local.ErrNotDirectory):
		return fmt.Errorf("'%s' is not an existing directory there; is the file system mounted?", dir)
	case errors.Is(err, btrfs.ErrNotBtrfs):
		return fmt.Errorf("%w; is the file system mounted?", err)
	}
	return err
}
