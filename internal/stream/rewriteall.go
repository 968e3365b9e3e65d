package stream

import (
	"encoding/binary"
	"io"
)

// rewriteBatch is how much RewriteAll gathers before it gives it out, if one command is
// not longer.
const rewriteBatch = 32 << 10

// RewriteAll returns the stream that r reads, with other UUIDs in it: the snapshot that
// it makes is called to, and the one that it starts from is called from, in the
// first command and in all clone commands that refer to one of them. A zero UUID
// changes nothing, and neither does from in a full stream. All else stays as it is,
// but for the checksums.
//
// The commands are checked as they come: errors are those of r. It keeps one
// command, or 32 KiB, and allocates nothing per command.
func RewriteAll(r *Reader, to, from UUID) io.Reader { return &rewriter{in: r, to: to, from: from} }

type rewriter struct {
	in       *Reader
	to, from UUID
	identity Identity
	begun    bool
	out      []byte
	rest     []byte // of out
	err      error
}

func (r *rewriter) Read(p []byte) (int, error) {
	if len(r.rest) == 0 && r.err == nil {
		r.fill()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// fill takes commands until there is enough of them.
func (r *rewriter) fill() {
	r.out = r.out[:0]
	for r.err == nil && len(r.out) < rewriteBatch {
		var c *Command
		if c, r.err = r.in.Next(); r.err == nil {
			r.add(c)
		}
	}
	r.rest = r.out
}

func (r *rewriter) add(c *Command) {
	if !r.begun {
		r.begun, r.identity = true, identityOf(c)
		r.out = AppendHeader(r.out, r.in.Version())
	}
	at := len(r.out)
	r.out = append(r.out, c.Frame...)
	switch c.Kind {
	case Subvol:
		put(r.out[at:], AttrUUID, r.to)
	case Snapshot:
		put(r.out[at:], AttrUUID, r.to)
		put(r.out[at:], AttrCloneUUID, r.from)
	case Clone:
		put(r.out[at:], AttrCloneUUID, r.name(c.CloneUUID, c.CloneTransid))
	}
}

// put gives an attribute of a checked command its new value, if it has it and
// there is one.
func put(frame []byte, a Attr, name UUID) {
	if name == (UUID{}) {
		return
	}
	for rest := frame[headSize:]; len(rest) >= 4; {
		n := 4 + int(binary.LittleEndian.Uint16(rest[2:]))
		if Attr(binary.LittleEndian.Uint16(rest)) == a {
			copy(rest[4:n], name[:])
			putChecksum(frame)
			return
		}
		rest = rest[n:]
	}
}

// name is what the snapshot is called from now on that a clone command refers to;
// zero if that does not change. Snapshots of what was received once may all have
// the UUID that it had there: then the transid tells them apart.
func (r *rewriter) name(id UUID, transid uint64) UUID {
	parent := r.identity.HasParent && id == r.identity.Parent
	switch {
	case id == r.identity.UUID && !(parent && transid == r.identity.ParentTransid):
		return r.to
	case parent:
		return r.from
	}
	return UUID{}
}
