package seal

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

// The format of age: https://age-encryption.org/v1.
const (
	fileKeySize = 16
	nonceSize   = 16 // of the payload
	chunkSize   = 64 << 10
	sealedChunk = chunkSize + chacha20poly1305.Overhead

	// ageBlock is how many bytes are worked on at a time.
	ageBlock = 4 * chunkSize
	// maxHeader is the longest header that is written or read.
	maxHeader = 1 << 20
	// maxStanza is more than a header has for one recipient: RSA keys of 16384
	// bits take 2.9 KiB, and are the longest.
	maxStanza = 4 << 10
)

// envelope is what makes one encrypted stream different from all others.
type envelope struct {
	key    [fileKeySize]byte
	header []byte
	nonce  [nonceSize]byte
}

// newEnvelope has age make the header for new keys.
func newEnvelope(to []Recipient) (*envelope, error) {
	var e envelope
	var b bytes.Buffer
	var all []age.Recipient
	for _, r := range to {
		all = append(all, witness{r.age, &e.key})
	}
	// Age writes the header and the nonce at once. The writer it returns is left
	// alone: what it would encrypt, the one of this package does.
	if _, err := age.Encrypt(&b, all...); err != nil {
		return nil, fmt.Errorf("encrypting for the recipients: %w", err)
	}
	end := b.Len() - nonceSize
	if end > maxHeader {
		return nil, fmt.Errorf("encrypting for %d recipients: these are too many", len(to))
	}
	e.header = b.Bytes()[:end]
	copy(e.nonce[:], b.Bytes()[end:])
	return &e, nil
}

// clear wipes the key.
func (e *envelope) clear() { clear(e.key[:]) }

// witness is a recipient that keeps a copy of the key it wraps.
type witness struct {
	age.Recipient
	key *[fileKeySize]byte
}

// WrapWithLabels is what age calls where there is one; the labels say which
// recipients go together.
func (w witness) WrapWithLabels(key []byte) ([]*age.Stanza, []string, error) {
	if len(key) != fileKeySize {
		return nil, nil, errors.New("the library of age has another kind of key")
	}
	copy(w.key[:], key)
	if r, ok := w.Recipient.(age.RecipientWithLabels); ok {
		return r.WrapWithLabels(key)
	}
	s, err := w.Wrap(key)
	return s, nil, err
}

// encrypter is the stage that encrypts with age.
type encrypter struct {
	*lanes
	dst    io.Writer
	header []byte // not put out yet
}

func newEncrypter(ctx context.Context, dst io.Writer, e *envelope, workers int) (*encrypter, error) {
	key, err := hkdf.Key(sha256.New, e.key[:], e.nonce[:], "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving the key: %w", err)
	}
	defer clear(key)
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, fmt.Errorf("setting up encryption: %w", err)
	}
	c := &encrypter{lanes: newLanes(ctx, workers, ageBlock), dst: dst}
	c.header = append(bytes.Clone(e.header), e.nonce[:]...)
	c.work = func(index uint64, last bool, in, out []byte) []byte {
		return sealChunks(aead, index*(ageBlock/chunkSize), last, in, out)
	}
	c.put = func(_ int, b []byte) error {
		if err := c.begin(); err != nil {
			return err
		}
		_, err := c.dst.Write(b)
		return err
	}
	return c, nil
}

// sealChunks appends the chunks of a block, numbered from first on.
func sealChunks(aead cipher.AEAD, first uint64, last bool, in, out []byte) []byte {
	if cap(out) == 0 {
		out = make([]byte, 0, (len(in)/chunkSize+1)*sealedChunk)
	}
	var nonce [chacha20poly1305.NonceSize]byte
	for n := first; ; n++ {
		chunk := in[:min(chunkSize, len(in))]
		in = in[len(chunk):]
		// The counter has 88 bits; 64 are enough for 2^80 bytes.
		binary.BigEndian.PutUint64(nonce[3:11], n)
		if last && len(in) == 0 {
			nonce[11] = 1
		}
		out = aead.Seal(out, nonce[:], chunk, nil)
		if len(in) == 0 {
			return out
		}
	}
}

// begin puts the header out, once.
func (c *encrypter) begin() error {
	if c.header == nil {
		return nil
	}
	_, err := c.dst.Write(c.header)
	c.header = nil
	return err
}

// Close puts out what is left. An empty stream has one empty chunk, and no other
// stream has one.
func (c *encrypter) Close() error { return c.finish(true) }

// ageBound is the longest a stream of n bytes can get.
func ageBound(n int64, to []Recipient) int64 {
	header := 256 + int64(len(to))*maxStanza // 256 for the version, the MAC and the nonce
	chunks := max(1, (n+chunkSize-1)/chunkSize)
	return n + chunks*chacha20poly1305.Overhead + header
}
