package cli

import (
	"context"
	"errors"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/replay"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/ssh"
	"github.com/buttersink/buttersink/internal/store/ssh/bare"
)

// open opens both stores.
func (o *syncOptions) open(ctx context.Context, env *Env, command string, from, to site, led *ledger.Ledger) (src, dst *opened, err error) {
	both := opening{s3: o.s3, ssh: o.ssh, plainWire: o.wire.compression.never, limit: pace.New(o.wire.limit.bytes), ledger: led}
	in, out := both, both
	in.mode, in.local, in.needsProgram = ssh.Read, local.Options{KernelSend: o.kernelSend, Plain: o.decompress}, o.ofSource()
	out.mode, out.local, out.needsProgram = o.mode(), o.checkpoints(), o.ofDestination()
	out.keep, out.again, out.mount = o.keep, o.again, o.mount
	if from.Archive() {
		in.archive.PartSize = int64(o.partSize) << 20 // it bounds what is read ahead, too
		if in.archive.Keys, err = env.keys(from.identities(o.identity)); err != nil {
			return nil, nil, from.inTrouble("identity", from.identities(o.identity), err)
		}
	}
	if to.KeepsStreams() {
		// Any btrfs receive can carry out what any machine may have to restore.
		in.local.Protocol = 1
	}
	if to.Archive() {
		out.archive.RequireEncryption, out.archive.PartSize = o.requireEncryption, int64(o.partSize)<<20
		if out.archive.Seal, err = sealing(command, o.compress, o.encrypt); err != nil {
			return nil, nil, to.inTrouble("encrypt", o.encrypt, err)
		}
		if err := out.archive.Seal.Usable(ctx); err != nil {
			return nil, nil, &exitError{code: exitConfig, err: err}
		}
	}
	if to.OverSSH() {
		// What carries the streams out decides on what they may be made of, and what
		// that is over there comes out only now.
		if dst, err = env.open(ctx, command, to, out); err != nil {
			return nil, nil, err
		}
		if _, ok := dst.Store.(*bare.Store); ok {
			in.local.Protocol = 1
		}
	}
	if src, err = env.open(ctx, command, from, in); err != nil {
		if dst != nil {
			err = errors.Join(err, dst.Close())
		}
		return nil, nil, err
	}
	if dst == nil {
		if dst, err = env.open(ctx, command, to, out); err != nil {
			return nil, nil, errors.Join(err, src.Close())
		}
	}
	if a, ok := dst.Store.(*archive.Store); ok {
		// What every stream would fail with is known before any of them is measured.
		if err := a.Writable(ctx); err != nil {
			return nil, nil, errors.Join(err, src.Close(), dst.Close())
		}
	}
	return src, dst, nil
}

// mode is what the destination has to allow on another machine.
func (o *syncOptions) mode() ssh.Mode {
	switch {
	case o.dryRun:
		return ssh.Read
	case o.delete:
		return ssh.Write
	}
	return ssh.Append
}

// ofSource is the first flag that only buttersink itself can obey at a source, as
// it is typed; "" for none.
func (o *syncOptions) ofSource() string {
	switch {
	case o.kernelSend:
		return "--kernel-send"
	case o.decompress:
		return "--decompress"
	}
	return ""
}

// ofDestination is the same of a destination.
func (o *syncOptions) ofDestination() string {
	if o.checkpoint.given != "" {
		return "--checkpoint"
	}
	return ""
}

// checkpoints is how a btrfs directory keeps what an interrupted run can be
// carried on from.
func (o *syncOptions) checkpoints() local.Options {
	switch {
	case o.checkpoint.given == "":
		return local.Options{}
	case o.checkpoint.bytes == 0:
		return local.Options{Checkpoints: replay.Checkpoints{Bytes: -1, Every: -1}}
	}
	return local.Options{Checkpoints: replay.Checkpoints{Bytes: o.checkpoint.bytes}}
}
