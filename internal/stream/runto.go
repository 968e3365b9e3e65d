package stream

// NextRunTo is NextRun, but the run ends with the first command that ends at
// the offset limit of the stream, or behind it. Who reads up to a place where a
// command ends comes to stand exactly there.
func (r *Reader) NextRunTo(limit int64) ([]byte, error) {
	if err := r.ready(); err != nil {
		return nil, err
	}
	n, err := r.frame(true)
	if err != nil {
		return nil, r.fail(err)
	}
	for n > 0 && err == nil {
		r.accept(n)
		if r.ended || r.offset+int64(r.ahead) >= limit {
			break
		}
		// A bad command here ends the run; the next call meets it again.
		n, err = r.frame(false)
	}
	run := r.buf[r.start : r.start+r.ahead : r.start+r.ahead]
	r.release()
	return run, nil
}
