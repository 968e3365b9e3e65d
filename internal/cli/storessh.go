package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/buttersink/buttersink/internal/store/pipe"
	"github.com/buttersink/buttersink/internal/store/ssh"
	"github.com/buttersink/buttersink/internal/store/ssh/bare"
	"github.com/buttersink/buttersink/internal/store/ssh/dial"
)

// target is how the machine of a place is reached.
func (env *Env) target(p site, o *sshFlags) dial.Target {
	t := dial.Target{
		User: p.Machine.User, Host: p.Machine.Host, Port: p.Machine.Port,
		Options: o.options, Command: o.command.words,
		// Who is at a terminal can be asked there, also where one of both streams
		// goes elsewhere.
		Batch: !env.StdinIsTerminal && !env.StderrIsTerminal,
		Log:   env.Log, Getenv: env.Getenv,
	}
	switch o.sudo.text {
	case sudoAlways:
		t.Sudo = dial.Always
	case sudoNever:
		t.Sudo = dial.Never
	}
	return t
}

// openSSH opens a btrfs directory of another machine: with the buttersink there,
// or, where there is none and nothing says that there should be, with btrfs and
// a shell.
func (env *Env) openSSH(ctx context.Context, p site, o opening) (*opened, error) {
	st, err := ssh.Open(ctx, ssh.Options{
		Target: env.target(p, &o.ssh), Dir: strings.TrimSuffix(p.Dir, "/") + "/", Mode: o.mode, Wishes: o.wishes(),
		Of: o.local.Origin, MakeDir: o.local.Make, MakeWritable: o.local.MakeWritable,
		Program: versionText(), RemoteProgram: o.ssh.program,
		Compress: !o.plainWire, Limit: o.limit, Log: env.Log,
	})
	switch {
	case err == nil:
		return &opened{site: p, Store: st}, nil
	case !errors.Is(err, dial.ErrNoProgram):
		return nil, err
	case o.ssh.program != "":
		return nil, &exitError{
			code: exitFailed, err: err,
			hint: "--ssh-program says where buttersink is over there; without it, the PATH of the far side does.",
		}
	case o.needsProgram != "":
		return nil, &exitError{
			code: exitFailed, err: err,
			hint: fmt.Sprintf("%s takes a buttersink there; without it, ssh+btrfs://%s%s/%s needs only btrfs and a shell.", o.needsProgram, p.Machine, strings.TrimSuffix(p.Dir, "/"), p.Name),
		}
	}
	st2, bareErr := env.openBare(ctx, p, o)
	if bareErr != nil {
		return nil, errors.Join(err, bareErr)
	}
	// Less is checked there then, and a cut run begins again: -q does not hide it, but
	// for who has always had it so.
	say := env.Log.Warn
	if o.bareIsUsual {
		say = env.Log.Info
	}
	say(fmt.Sprintf("%s has no buttersink: going on with the btrfs and the shell there, as with ssh+btrfs://", p.Machine.Host))
	return st2, nil
}

// openBare opens a btrfs directory of a machine that has no buttersink.
func (env *Env) openBare(ctx context.Context, p site, o opening) (*opened, error) {
	st, err := bare.Open(ctx, bare.Options{
		Target: env.target(p, &o.ssh), Dir: p.Dir, Writes: o.mode == ssh.Append || o.mode == ssh.Write,
		Of: o.local.Origin, MakeDir: o.local.Make, MakeWritable: o.local.MakeWritable,
		Protocol: o.local.Protocol, Limit: o.limit, Log: env.Log,
	})
	if err != nil {
		return nil, err
	}
	return &opened{site: p, Store: st}, nil
}

// openShell opens a command of the user's as a store.
func (env *Env) openShell(ctx context.Context, p site, o opening) (*opened, error) {
	po := pipe.Options{Command: p.Command, Again: o.again, Log: env.Log}
	if o.ledger != nil { // a nil *Ledger in an interface is something
		po.Notes = o.ledger
	}
	st, err := pipe.Open(ctx, po)
	if err != nil {
		return nil, err
	}
	return &opened{site: p, Store: st}, nil
}

// wishes are those options of a btrfs directory that another machine is asked
// for.
func (o *opening) wishes() ssh.Wishes {
	return ssh.Wishes{
		Protocol: o.local.Protocol, KernelSend: o.local.KernelSend, Plain: o.local.Plain,
		CheckpointBytes: o.local.Checkpoints.Bytes, CheckpointEvery: o.local.Checkpoints.Every,
	}
}
