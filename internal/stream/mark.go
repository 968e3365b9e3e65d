package stream

import "crypto/sha256"

// Mark is a place in a stream, between two commands.
type Mark struct {
	// Offset is how many bytes of the stream are before it, Commands how many
	// commands. Both are zero at the start.
	Offset, Commands int64
	// Digest is the SHA-256 of the stream's header and of the heads of all
	// commands before the place: length, kind and checksum, 10 bytes each. The
	// checksums stand for what the commands say. At the start it is zero.
	Digest [sha256.Size]byte
}

// headsBatch is how many bytes of heads are hashed at once.
const headsBatch = 64 * headSize

// Mark returns the place after the last command that was handed out. It is the
// same for all readers of a stream that have come to the place, however they
// did.
func (r *Reader) Mark() Mark {
	m := Mark{Offset: r.stats.Bytes, Commands: r.stats.Commands}
	if m.Commands > 0 {
		r.hashHeads()
		r.sum.Sum(m.Digest[:0])
	}
	return m
}

// startHash begins the hash with the stream's header.
func (r *Reader) startHash(header []byte) {
	if r.sum == nil {
		r.sum = sha256.New()
	}
	r.sum.Reset()
	r.heads = append(r.heads[:0], header...)
}

// addHead adds a command to what is to be hashed.
func (r *Reader) addHead(frame []byte) {
	r.heads = append(r.heads, frame[:headSize]...)
	if len(r.heads) >= headsBatch {
		r.hashHeads()
	}
}

// hashHeads brings the hash up to date.
func (r *Reader) hashHeads() {
	r.sum.Write(r.heads) // never fails, says package hash
	r.heads = r.heads[:0]
}
