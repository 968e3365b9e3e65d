// Package seal turns streams into what an archive stores, and back: compressed
// with zstd, encrypted with age or gpg, or plain. Whatever it makes, Debian's own
// tools undo: age -d or gpg -d, then zstd -d.
//
//	w, err := seal.NewWriter(ctx, dst, options, nil)
//	_, err = io.Copy(w, stream)
//	err = w.Close()
//
// For btrsend's archives there is gzip beside zstd (Options.Gzip, Form.Gzip): gpg -d
// and gunzip undo that. No key of an archive's says so.
//
// It knows the formats and the keys. It does not know what the streams hold,
// where the results are kept, or what they are called beyond the suffix.
//
// # What is made
//
// A compressed stream is cut into pieces of FrameSize bytes, and each becomes a
// zstd frame of its own, with its length and checksum in it. Behind them stand a
// skippable frame with a CRC-32C of them all, and the seek table of
// https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md,
// which is the end. An encrypted stream is a file of age
// (https://age-encryption.org/v1) or an OpenPGP message.
//
// # What may be relied on
//
// The same stream makes the same bytes, whatever the sizes of the writes and the
// number of workers are; with age, when the writer is given the secret of the
// first time. So an interrupted upload can be carried on. Gpg cannot do this.
//
// The reader takes what the writer makes and nothing else. Wherever a bit is
// wrong, where something is missing at the end or follows it, reading ends in an
// error that is not io.EOF. What it gave before that is right with age and zstd;
// of gpg nothing may be trusted before the end.
//
// # Secrets
//
// Whoever has seen two different streams sealed with one secret of age can tell
// what differs in them. A stream that turns out not to be the one the secret
// belongs to is therefore started again with a new secret, from its first byte.
//
// # Memory
//
// Compressing takes (Workers+2) × 2 × FrameSize for the pieces, and what the
// compressor keeps for each worker: 3 MiB at level 1, 4 MiB from level 3 on, 7
// MiB from 6 on, 37 MiB from 10 on. With 2 workers at level 3, age included, this
// is 22 MiB, measured. Encrypting with age takes (Workers+2) × 512 KiB, with gpg
// 512 KiB here and what gpg takes. Reading takes as much for the pieces, twice as
// much if others have made them as long as they may be, and little else. To this
// come 6 bytes for each MiB of the stream, for the seek table, when writing.
package seal

import "strings"

// Cipher is how something is encrypted.
type Cipher string

// The ciphers, as keys of objects end in them after a dot.
const (
	None Cipher = ""
	Age  Cipher = "age"
	GPG  Cipher = "gpg"
)

// Form is what is done to a stream, in this order.
type Form struct {
	Compressed bool
	Cipher     Cipher
	// Gzip has it compressed by gzip in place of zstd; then Compressed is set, too.
	// Of a gzip stream there may be several members. CutSuffix never finds this form,
	// as no key ends in it.
	Gzip bool
}

// Plain reports whether the stream stays as it is.
func (f Form) Plain() bool { return f == Form{} }

// Suffix is what the key of an object in this form ends in: "", ".zst", ".age",
// ".zst.age", ".gpg", ".zst.gpg"; and of what has no key, ".gz" and ".gz.gpg".
func (f Form) Suffix() string {
	s := ""
	switch {
	case f.Compressed && f.Gzip:
		s = ".gz"
	case f.Compressed:
		s = ".zst"
	}
	if f.Cipher != None {
		s += "." + string(f.Cipher)
	}
	return s
}

// CutSuffix splits the form off the end of a key. What has none is plain.
func CutSuffix(key string) (before string, f Form) {
	before = key
	for _, c := range []Cipher{Age, GPG} {
		if b, ok := strings.CutSuffix(before, "."+string(c)); ok {
			before, f.Cipher = b, c
			break
		}
	}
	if b, ok := strings.CutSuffix(before, ".zst"); ok {
		before, f.Compressed = b, true
	}
	return before, f
}
