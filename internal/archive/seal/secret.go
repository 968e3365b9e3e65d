package seal

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrSecret says that a secret does not belong to what is to be made now: the
// recipients, the compression or the program have changed, or it is damaged. A
// stream is then sealed anew, without it.
var ErrSecret = errors.New("the stream cannot be sealed as it was the last time")

// recipe counts the ways in which a stream has been turned into bytes. Whenever
// the same stream and secret make other bytes than before, another version of
// the compressor included, it goes up; TestRecipe tells.
const recipe = 1

// A secret is, in order: 'S', the version of this encoding, the recipe, the
// level of compression or 0 for none, and 1 for age or 0. For age follow the
// digest of the recipients, the key, the nonce, the length of the header and the
// header. At the end is the digest of all that.
const (
	secretVersion = 1
	secretFixed   = 5
)

// encodeSecret writes down what makes the same bytes again.
func encodeSecret(o Options, e *envelope) []byte {
	b := []byte{'S', secretVersion, recipe, 0, 0}
	if o.Compress {
		b[3] = byte(o.level())
	}
	if e != nil {
		b[4] = 1
		b = append(b, digestRecipients(o.Recipients)...)
		b = append(b, e.key[:]...)
		b = append(b, e.nonce[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.header)))
		b = append(b, e.header...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodeSecret reads a secret and compares it with the options. The envelope is
// nil unless they say age.
func decodeSecret(b []byte, o Options) (*envelope, error) {
	if len(b) < secretFixed+sha256.Size || b[0] != 'S' {
		return nil, fmt.Errorf("%w: the secret is damaged", ErrSecret)
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if want := sha256.Sum256(body); subtle.ConstantTimeCompare(want[:], sum) != 1 {
		return nil, fmt.Errorf("%w: the secret is damaged", ErrSecret)
	}
	if body[1] != secretVersion || body[2] != recipe {
		return nil, fmt.Errorf("%w: another version of the program sealed it", ErrSecret)
	}
	level, cipher := byte(0), byte(0)
	if o.Compress {
		level = byte(o.level())
	}
	if o.Form().Cipher == Age {
		cipher = 1
	}
	if body[3] != level || body[4] != cipher {
		return nil, fmt.Errorf("%w: compression or encryption has changed", ErrSecret)
	}
	if rest := body[secretFixed:]; cipher == 1 {
		return decodeEnvelope(rest, o.Recipients)
	} else if len(rest) > 0 {
		return nil, fmt.Errorf("%w: the secret is damaged", ErrSecret)
	}
	return nil, nil
}

func decodeEnvelope(b []byte, to []Recipient) (*envelope, error) {
	const fixed = sha256.Size + fileKeySize + nonceSize + 4
	if len(b) < fixed {
		return nil, fmt.Errorf("%w: the secret is damaged", ErrSecret)
	}
	if !bytes.Equal(b[:sha256.Size], digestRecipients(to)) {
		return nil, fmt.Errorf("%w: the recipients have changed", ErrSecret)
	}
	var e envelope
	rest := b[sha256.Size:]
	rest = rest[copy(e.key[:], rest):]
	rest = rest[copy(e.nonce[:], rest):]
	n := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	if n > maxHeader || int(n) != len(rest) {
		return nil, fmt.Errorf("%w: the secret is damaged", ErrSecret)
	}
	e.header = bytes.Clone(rest)
	return &e, nil
}

// digestRecipients stands for a set of recipients.
func digestRecipients(to []Recipient) []byte {
	var names []string
	for _, r := range to {
		names = append(names, r.name)
	}
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(names), "\n")))
	return sum[:]
}
