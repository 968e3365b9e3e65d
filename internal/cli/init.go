package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/store"
)

// initOptions are the flags of init.
type initOptions struct {
	requireEncryption bool
	s3                s3Flags
}

// newInit returns the command that makes a place an archive.
func newInit(env *Env) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init [flags] URL",
		Short: "Make a directory, a bucket or a vault an archive",
		Long: `init puts a marker into a directory (dir:///path/), below a prefix of a bucket
(s3://bucket/prefix/) or of a vault (glacier://vault/prefix/), which says that it is
an archive. A vault that is not there is made.

A directory needs one before the first sync. Without the marker nothing is stored
there: if the disk is not mounted, the empty mount point has none, and the run ends
with an error in place of filling the wrong file system. In S3 it is not needed,
but for --require-encryption.

With --require-encryption, nothing that is not encrypted is ever stored there, by
any machine: a sync without --encrypt ends before its first byte is sent. What is
there already stays as it is.

Before: the directory or bucket exists, and you may write there. Vaults can be made
only by who was a customer of the original Glacier before it was closed to others.

After: there is a file .buttersink-archive.json with an identity and the time. If
there was one already, nothing has changed, except that --require-encryption can
be added; it is never taken away.`,
		Example: `  mkdir /mnt/usb/snaps && buttersink init dir:///mnt/usb/snaps/
  buttersink init --require-encryption s3://bucket/snaps/`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd.CommandPath(), "want one archive, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runInit(cmd, env, &o, args[0])
		},
	}
	cmd.Flags().BoolVar(&o.requireEncryption, "require-encryption", false, "never store there what is not encrypted")
	s3FlagsOf(cmd, &o.s3)
	return cmd
}

func runInit(cmd *cobra.Command, env *Env, o *initOptions, url string) error {
	ctx, command := cmd.Context(), cmd.CommandPath()
	// As of a destination, a slash at the end makes no difference.
	p, err := env.placeOf(command, url, true)
	if err != nil {
		return err
	}
	if err := o.s3.fit(command, p); err != nil {
		return err
	}
	if p.Scheme == "shell" {
		return usagef(command, "a command needs nothing: an archive is dir:///PATH/, s3://BUCKET/PREFIX/ or glacier://VAULT/PREFIX/")
	}
	if !p.Archive() {
		return usagef(command, "%q is a btrfs directory, which needs nothing: an archive is dir:///PATH/, s3://BUCKET/PREFIX/ or glacier://VAULT/PREFIX/", place.Redact(url))
	}
	if err := p.settle(cmd); err != nil {
		return err
	}
	st, err := env.open(ctx, command, p, opening{s3: o.s3, makeVault: true})
	if err != nil {
		return err
	}
	defer st.Close()
	a, ok := st.Store.(*archive.Store)
	if !ok {
		return usagef(command, "%q is what btrsend has left in a vault, which needs nothing; without its options it is an archive of ours", place.Redact(url))
	}
	err = a.Init(ctx, archive.InitOptions{RequireEncryption: o.requireEncryption})
	if _, ok := errors.AsType[*store.ExistsError](err); ok {
		env.Log.Info(fmt.Sprintf("%s is an archive already", st.Store))
		return nil
	}
	if err != nil {
		return err
	}
	env.Log.Info(fmt.Sprintf("%s is an archive now", st.Store))
	return nil
}
