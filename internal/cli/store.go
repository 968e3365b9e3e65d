package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/btrsend"
	"github.com/buttersink/buttersink/internal/archive/dir"
	"github.com/buttersink/buttersink/internal/archive/s3"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/ledger"
	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/local"
	"github.com/buttersink/buttersink/internal/store/ssh"
)

// opened is a store with the argument that named it.
type opened struct {
	site
	store.Store
}

// opening says how the stores of a command are opened: the parts of it that the
// place is about are used.
type opening struct {
	local   local.Options
	archive archive.Options
	s3      s3Flags
	// keep is what S3 is told about objects that are made.
	keep keepFlags
	ssh  sshFlags
	// mode is what has to be allowed on another machine; empty is ssh.Read.
	mode ssh.Mode
	// plainWire leaves what goes over ssh as it is.
	plainWire bool
	// needsProgram is a flag that only a buttersink on the other machine can obey,
	// as it is typed; "" for none.
	needsProgram string
	// bareIsUsual is set where nobody expects a buttersink on the other machine.
	bareIsUsual bool
	// limit holds for all stores of the command together; nil is none.
	limit *pace.Limiter
	// mount is where a file system has to be mounted, if it is one of this machine; ""
	// asks for none.
	mount string
	// again gives a command also what it has been given before.
	again bool
	// makeVault makes a vault of Glacier if it is missing.
	makeVault bool
	// rows is btrsend's database, where it is open already.
	rows btrsend.Rows
	// ledger keeps what interrupted uploads need, and what commands have been given;
	// nil keeps nothing.
	ledger *ledger.Ledger
}

// s3Flags are the flags that say how S3 is reached. The options of a URL come
// before them.
type s3Flags struct {
	endpoint  string
	pathStyle bool
}

// keepFlags are the flags that say how S3 keeps what is made there.
type keepFlags struct{ class, sse, kmsKey string }

// placeOf reads an argument, which is the command's fault if it is wrong.
func placeOf(command, arg string, destination bool) (site, error) {
	p, err := place.Parse(arg, destination)
	if err != nil {
		return site{}, &usageError{command: command, err: err}
	}
	return site{Place: p}, nil
}

// open opens the store of a place: the composition root.
func (env *Env) open(ctx context.Context, command string, p site, o opening) (*opened, error) {
	o = o.ofStore(p)
	if err := p.mounted(o.mount); err != nil {
		return nil, err
	}
	var bucket archive.Bucket
	switch p.Scheme {
	case "s3":
		s3o, err := o.forS3(p.Place)
		if err != nil {
			return nil, &usageError{command: command, err: err}
		}
		s3o.Getenv, s3o.Log, s3o.Limit = env.Getenv, env.Log, o.limit
		if bucket, err = s3.Open(ctx, s3o); err != nil {
			return nil, err
		}
		o.archive.Prefix = p.Dir
	case "dir":
		var err error
		if bucket, err = dir.Open(p.Dir, dir.Options{Log: env.Log}); err != nil {
			return nil, p.explainDir(err)
		}
	case "glacier":
		if p.OfBtrsend() {
			return env.openBtrsend(ctx, p, o)
		}
		var err error
		if bucket, err = env.glacierBucket(ctx, p, &o); err != nil {
			return nil, err
		}
		o.archive.Prefix = p.Dir
	case "ssh":
		return env.openSSH(ctx, p, o)
	case "ssh+btrfs":
		return env.openBare(ctx, p, o)
	case "shell":
		return env.openShell(ctx, p, o)
	default:
		o.local.Log = env.Log
		st, err := local.Open(p.Dir, o.local)
		if err != nil {
			return nil, p.explain(err)
		}
		return &opened{site: p, Store: st}, nil
	}
	o.archive.Version, o.archive.Log, o.archive.Now = versionText(), env.Log, env.Now
	if o.ledger != nil { // a nil *Ledger in an interface is something
		o.archive.Notes = o.ledger
	}
	st, err := archive.Open(ctx, bucket, o.archive)
	if err != nil {
		return nil, errors.Join(err, bucket.Close())
	}
	return &opened{site: p, Store: st}, nil
}

// forS3 are the options of a bucket.
func (o opening) forS3(p place.Place) (s3.Options, error) {
	all := s3.Options{
		Bucket:   p.Bucket,
		Endpoint: cmp.Or(p.Options["endpoint"], o.s3.endpoint), PathStyle: o.s3.pathStyle, Region: p.Options["region"],
		Class: cmp.Or(p.Options["storage-class"], o.keep.class),
		SSE:   cmp.Or(p.Options["sse"], o.keep.sse), KMSKey: cmp.Or(p.Options["kms-key"], o.keep.kmsKey),
	}
	if class, ok := p.Options["storage-class"]; ok && class == "" {
		return s3.Options{}, errors.New("storage-class= in the URL is empty: want the name of a class, or nothing of it")
	}
	if text, ok := p.Options["path-style"]; ok {
		style, err := strconv.ParseBool(text)
		if err != nil {
			return s3.Options{}, fmt.Errorf("path-style=%s in the URL: want true or false", text)
		}
		all.PathStyle = style
	}
	if all.KMSKey != "" && all.SSE == "" {
		all.SSE = "aws:kms"
	}
	switch {
	case !slices.Contains([]string{"", "none", "AES256", "aws:kms"}, all.SSE):
		return s3.Options{}, fmt.Errorf("encryption %q at the server is not known: want AES256, aws:kms or none", all.SSE)
	case all.KMSKey != "" && all.SSE != "aws:kms":
		return s3.Options{}, fmt.Errorf("a KMS key goes with the encryption aws:kms, not with %s", all.SSE)
	}
	return all, nil
}

// sealing reads the flags --compress and --encrypt.
func sealing(command, compress string, encrypt []string) (seal.Options, error) {
	var o seal.Options
	var err error
	if compress != "" {
		o.Compress = true
		if o.Level, err = seal.ParseCompress(compress); err != nil {
			return seal.Options{}, usagef(command, "--compress: %w", err)
		}
	}
	if o.Recipients, err = seal.ParseRecipients(encrypt); err != nil {
		return seal.Options{}, usagef(command, "--encrypt: %w", err)
	}
	return o, nil
}

// identityVariable names the files with the keys that open what is encrypted,
// with colons between them, where --identity does not.
const identityVariable = "BUTTERSINK_IDENTITY"

// keys loads the keys that open what is encrypted.
func (env *Env) keys(files []string) (seal.Keys, error) {
	if len(files) == 0 {
		files = slices.DeleteFunc(strings.Split(env.Getenv(identityVariable), ":"), func(f string) bool { return f == "" })
	}
	k, err := seal.LoadKeys(files)
	if err != nil {
		return seal.Keys{}, &exitError{code: exitConfig, err: err}
	}
	return k, nil
}

// fit says whether the flags about S3 have anything to say about a place.
func (o s3Flags) fit(command string, p site) error {
	switch {
	case p.Scheme == "s3":
	case o.endpoint != "":
		return usagef(command, "--s3-endpoint is only for s3://")
	case o.pathStyle:
		return usagef(command, "--s3-path-style is only for s3://")
	}
	return nil
}

// openArchive opens the archive at a place; why says what btrfs has in place of
// the command.
func (env *Env) openArchive(ctx context.Context, command string, p site, why string, o opening) (*opened, error) {
	if err := o.s3.fit(command, p); err != nil {
		return nil, err
	}
	if p.Scheme == "shell" {
		return nil, usagef(command, "what becomes of the streams that a command is given is its own affair: want an archive, dir://, s3:// or glacier://")
	}
	if !p.Archive() {
		return nil, usagef(command, "%q is a btrfs directory and not an archive (dir://, s3:// or glacier://): %s", place.Redact(p.Arg), why)
	}
	return env.open(ctx, command, p, o)
}
