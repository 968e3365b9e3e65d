package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/ssh"
)

// serverHelp is the text of the help topic.
const serverHelp = `buttersink --server --mode MODE [--of SUBVOLUME] [--make-dir] [--convert-rw] /dir/

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
  w  also remove snapshots and unfinished transfers, and keep notes of what is
     unfinished or held: for --delete, for backups and for prune

  --of SUBVOLUME  modes a and w may make snapshots of this one, into the directory:
                  for backup ssh://host/SUBVOLUME. It is on the same file system
  --make-dir      modes a and w make the directory if it is not there, on btrfs only
  --convert-rw    mode w may make a snapshot writable to remove it, where the
                  kernel wants that, as it does of others than root

A push asks for a, with --delete for w; a dry run, a listing and a pull ask for r;
a backup asks for w, with --of where it begins and --make-dir where it goes. A
forced command may allow more than is asked for; if it allows less, the session is
refused, and nothing has changed. A sudoers line holds for the words that it names,
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
	// of is the subvolume that may be snapshotted; makeDir and makeWritable are
	// Make and MakeWritable of local.Options.
	of                    string
	makeDir, makeWritable bool
}

// serverWords are the flags that go with --server only.
var serverWords = []string{"mode", "of", "make-dir", "convert-rw"}

// serverFlagsOf gives the program the flags of a server.
func serverFlagsOf(cmd *cobra.Command, o *serverFlags) {
	f := cmd.Flags()
	f.BoolVar(&o.server, "server", false, "")
	f.StringVar(&o.mode, "mode", "", "")
	f.StringVar(&o.of, "of", "", "")
	f.BoolVar(&o.makeDir, "make-dir", false, "")
	f.BoolVar(&o.makeWritable, "convert-rw", false, "")
	for _, name := range append([]string{"server"}, serverWords...) {
		f.Lookup(name).Hidden = true
	}
}

// given returns one of serverWords that was given; "" if none was.
func (o *serverFlags) given() string {
	for i, is := range []bool{o.mode != "", o.of != "", o.makeDir, o.makeWritable} {
		if is {
			return serverWords[i]
		}
	}
	return ""
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
	switch {
	case o.makeDir && mode == ssh.Read:
		return "", serverUsagef("--make-dir goes with --mode a or w: mode r makes nothing")
	case o.makeWritable && mode != ssh.Write:
		return "", serverUsagef("--convert-rw goes with --mode w: the others remove nothing")
	}
	if o.of != "" {
		if err := checkServed("--of", "subvolume", o.of); err != nil {
			return "", err
		}
	}
	return mode, checkServed("--server", "directory", args[0])
}

// checkServed returns an error unless a path that a server was given is written in
// full.
func checkServed(flag, what, dir string) error {
	clean := filepath.Clean(dir)
	if !filepath.IsAbs(dir) {
		return serverUsagef("%s wants the full path of the %s, not %q", flag, what, dir)
	}
	if dir != clean && dir != clean+"/" {
		return serverUsagef("%s wants the %s as %s/, not as %s: rules for one directory are not stretched to others", flag, what, clean, dir)
	}
	return nil
}

// runServer serves a directory to the other side of standard input and output.
// Odd is a flag that was given and is none of a server's, "" for none.
func runServer(ctx context.Context, env *Env, o *serverFlags, odd string, args []string) error {
	mode, err := o.check(args)
	if err != nil {
		return err
	}
	if odd != "" {
		return serverUsagef("--%s has no effect there: --server goes with --mode, --of, --make-dir, --convert-rw, --quiet and --logfile", odd)
	}
	if env.StdinIsTerminal {
		return serverUsagef("--server is not for people: it is the far side of a transfer, started by buttersink on another machine, and not from a terminal")
	}
	dir := filepath.Clean(args[0])
	err = ssh.Serve(ctx, env.Stdin, env.Stdout, ssh.ServeOptions{
		Mode: mode, Dir: dir, Of: o.of, Program: versionText(), Log: env.Log,
		Open: func(_ context.Context, w ssh.Wishes) (store.Store, error) {
			st, err := local.Open(dir, local.Options{
				Protocol: w.Protocol, KernelSend: w.KernelSend, Plain: w.Plain,
				Checkpoints: replay.Checkpoints{Bytes: w.CheckpointBytes, Every: w.CheckpointEvery},
				Origin:      o.of,
				// What the client asks for may be less than it may ask for.
				Make: o.makeDir && w.Mode != ssh.Read, MakeWritable: o.makeWritable && w.Mode == ssh.Write,
				Log: env.Log,
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
	if _, ok := errors.AsType[*btrfs.PermissionError](err); ok || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; log in as root, or allow the user to run 'sudo buttersink --server' and give --ssh-sudo", err)
	}
	switch {
	case errors.Is(err, local.ErrNotDirectory):
		return fmt.Errorf("'%s' is %w there; is the file system mounted?", dir, ssh.ErrNoDirectory)
	case errors.Is(err, btrfs.ErrNotBtrfs):
		return fmt.Errorf("%w; is the file system mounted?", err)
	}
	return err
}
