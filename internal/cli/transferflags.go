package cli

import "github.com/spf13/cobra"

// transferFlagsOf gives a command the flags that say how snapshots are sent and
// kept.
func transferFlagsOf(cmd *cobra.Command, o *syncOptions) {
	f := cmd.Flags()
	f.IntVar(&o.partSize, "part-size", 100, "upload in parts of this many `MiB`, or more where that would be too many; some are held in memory")
	f.Var(&o.maxFull, "max-full", "without a terminal, stop before a full stream longer than `SIZE` (10GiB, 500M)")
	f.Var(&o.maxRestore, "max-restore", "let no snapshot depend on streams of more than `SIZE` altogether (500GiB)")
	f.IntVar(&o.parallel, "parallel", 0, "send up to `N` short streams at a time; 0 leaves it to the program, which gives a shell:// command one")
	f.Var(&o.checkpoint, "checkpoint", "after every `SIZE` of a stream, make a place to carry on from (default 1GiB; 0: none)")
	f.StringVar(&o.mount, "mount", "", "send nothing unless a file system is mounted at `DIR`, which the destination lies in")
	f.BoolVar(&o.kernelSend, "kernel-send", false, "have full streams made by the kernel too; slower, for comparison")
	f.BoolVar(&o.decompress, "decompress", false, "send plain data, also where the source stores them compressed")
	f.StringVar(&o.compress, "compress", "", "compress streams with `zstd`, or zstd:LEVEL, from 1 to 19")
	f.StringArrayVar(&o.encrypt, "encrypt", nil, "encrypt streams for `RECIPIENT`: age:KEY, age:FILE with a key on each line, or gpg:KEY; may be repeated")
	f.BoolVar(&o.requireEncryption, "require-encryption", false, "store nothing that is not encrypted, whatever else is asked for")
	f.StringVar(&o.keep.class, "storage-class", "", "keep streams in this storage `CLASS` (STANDARD_IA, GLACIER, ...)")
	f.StringVar(&o.keep.sse, "sse", "", "have the server encrypt too, by `METHOD`: AES256 (which is the default), aws:kms or none")
	f.StringVar(&o.keep.kmsKey, "kms-key", "", "the `KEY` for --sse aws:kms")
	f.BoolVar(&o.again, "again", false, "give the command also what it has been given before")
}

// identityFlag gives a command the flag --identity.
func identityFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "identity", "i", nil, "open what is encrypted with the age or SSH key in `FILE`; may be repeated ($"+identityVariable+")")
}

// s3FlagsOf gives a command the flags that say how S3 is reached.
func s3FlagsOf(cmd *cobra.Command, o *s3Flags) {
	cmd.Flags().StringVar(&o.endpoint, "s3-endpoint", "", "reach S3 at this `URL` ($AWS_ENDPOINT_URL)")
	cmd.Flags().BoolVar(&o.pathStyle, "s3-path-style", false, "put the bucket into the path of requests, in place of the host name")
}
