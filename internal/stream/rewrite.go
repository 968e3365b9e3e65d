package stream

import (
	"bytes"
	"io"
)

// RewriteHead returns the stream r with other identities in its first command:
// UUID and Transid and, if the stream is incremental, Parent and ParentTransid
// of id, and another name for what it makes, Path, each where it is not zero. It reads and checks the first command at
// once; what follows it is handed on unchecked.
//
// Whoever receives the stream takes the snapshot's and the parent's identity
// from there. Clone commands further on name their own sources and stay.
func RewriteHead(r io.Reader, id Identity) (io.Reader, error) {
	in := NewReader(r)
	c, err := in.Next()
	if err != nil {
		return nil, err
	}
	if id.Path != "" {
		c.Path = []byte(id.Path)
	}
	if id.UUID != (UUID{}) {
		c.UUID = id.UUID
	}
	if id.Transid != 0 {
		c.Transid = id.Transid
	}
	if id.Parent != (UUID{}) {
		c.CloneUUID = id.Parent
	}
	if id.ParentTransid != 0 {
		c.CloneTransid = id.ParentTransid
	}
	var head bytes.Buffer
	w := NewWriter(&head, in.Version())
	if err := w.Write(c); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	read := bytes.NewReader(in.buf[in.start:in.end])
	return io.MultiReader(&head, read, &remainder{r, in.srcErr}), nil
}

// remainder is a reader whose last error may have been met already.
type remainder struct {
	r   io.Reader
	err error
}

func (r *remainder) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	return r.r.Read(p)
}
