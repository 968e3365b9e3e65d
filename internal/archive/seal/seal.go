// Package seal turns streams into what an archive stores, and back: compressed
// with zstd, encrypted with age or gpg, or plain. Whatever it makes, Debian's own
// tools undo: age -d or gpg -d, then zstd -d.
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
}

// Plain reports whether the stream stays as it is.
func (f Form) Plain() bool { return f == Form{} }

// Suffix is what the key of an object in this form ends in: "", ".zst", ".age",
// ".zst.age", ".gpg", ".zst.gpg".
func (f Form) Suffix() string {
	s := ""
	if f.Compressed {
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

// Options say how streams are sealed.
type Options struct {
	// Compress turns compression on, with a level of zstd's; 0 is its default.
	Compress bool
	Level    int
	// Recipients can open what is sealed; none means no encryption. They are all
	// of one cipher.
	Recipients []Recipient
	// Workers is how many processors compress; 0 is all.
	Workers int
}

// Recipient is who can open what is sealed: the public half of a key.
type Recipient struct{}

// Keys open what is sealed.
type Keys struct{}
