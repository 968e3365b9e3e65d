package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/stream"
)

// Resume looks for a checkpoint of an earlier receive of the same name and of
// the stream that want describes, in which a transaction number of zero is not
// known. If there is one, it makes Name.part of it and returns the state of a
// stream's reader: Receive has then to be given the Reader that [stream.Continue]
// makes of it. Else the state is nil, and the receive begins at the start.
//
// A checkpoint that cannot be used is deleted, and the log says why. An error
// is about the name, as that of Receive, about the parent, or says that the file
// system did not let it find out.
func (r *Receiver) Resume(ctx context.Context, want stream.Identity) (state []byte, err error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.state != idle || r.tree != nil {
		return nil, errors.New("resuming: it is too late")
	}
	if state, err = r.resume(ctx, want); err != nil {
		r.err = fmt.Errorf("receiving %s: %w", r.o.Name, err)
		r.closeFiles()
		return nil, r.err
	}
	return state, nil
}

func (r *Receiver) resume(ctx context.Context, want stream.Identity) ([]byte, error) {
	if err := checkName(r.o.Name); err != nil {
		return nil, err
	}
	if err := vacant(r.o.Dir, r.o.Name); err != nil {
		return nil, err
	}
	names, err := checkpointsOf(r.o.Dir, r.o.Name)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r.points.current != nil {
			// An older one, which nobody came to delete.
			f, err := openCheckpoint(r.o.Dir, name)
			if err == nil {
				err = r.discard(f, nil)
			}
			if err != nil && !errors.Is(err, ErrNoCheckpoint) {
				return nil, err
			}
			continue
		}
		c, err := r.take(name, want)
		if err != nil && !errors.Is(err, ErrNoCheckpoint) {
			return nil, err
		}
		if c != nil {
			r.carryOn(c)
		}
	}
	if r.points.current == nil {
		return nil, nil
	}
	return r.resumedState, nil
}

// take makes Name.part of a checkpoint. What cannot be used is deleted, and nil.
func (r *Receiver) take(name string, want stream.Identity) (*record, error) {
	f, err := openCheckpoint(r.o.Dir, name)
	if err != nil {
		return nil, err
	}
	c, why := readRecord(f, name)
	if why == nil && !matches(c, r.o.Name, want) {
		why = errors.New("it is of another transfer")
	}
	if why == nil {
		why, err = pristine(f)
	}
	if why == nil && err == nil && want.HasParent {
		_, err = r.source(btrfs.UUID(c.identity.Parent), c.identity.ParentTransid)
	}
	if why == nil && err == nil {
		if why, err = r.clonePart(f); err == nil && why == nil {
			r.points.current = f
			return c, nil
		}
	}
	if err != nil {
		release(f)
		return nil, err
	}
	return nil, r.discard(f, why)
}

// matches reports whether a record is of the stream that is wanted.
func matches(c *record, name string, want stream.Identity) bool {
	known := func(have, want uint64) bool { return want == 0 || have == want }
	id := c.identity
	return c.name == name && id.UUID == want.UUID && id.HasParent == want.HasParent && id.Parent == want.Parent &&
		known(id.Transid, want.Transid) && known(id.ParentTransid, want.ParentTransid)
}

// pristine returns why a checkpoint may not be what it was when it was made.
// Making it ended its transaction, so that any change since is of a later one.
func pristine(f *os.File) (why, err error) {
	info, err := btrfs.Info(f)
	switch {
	case err != nil:
		return nil, err
	case !info.ReadOnly:
		return errors.New("it is writable"), nil
	case info.Ctransid > info.Otransid:
		return errors.New("it has been changed"), nil
	case !info.ReceivedUUID.IsZero():
		return errors.New("it is marked as received"), nil
	}
	return nil, nil
}

// clonePart makes Name.part of the checkpoint f, in place of what was torn. why
// says that f turned out not to be what it should be.
func (r *Receiver) clonePart(f *os.File) (why, err error) {
	if err := r.removeRemainder(); err != nil {
		return nil, err
	}
	if err := btrfs.CreateSnapshot(r.o.Dir, r.part, f, false); err != nil {
		return nil, err
	}
	r.made = true
	// The kernel has written out what may have been written to f while it was
	// writable, so now it shows.
	if why, err := pristine(f); err != nil {
		return nil, err
	} else if why != nil {
		r.made = false
		return why, remove(r.o.Dir, r.part)
	}
	if err := r.openPart(); err != nil {
		return nil, err
	}
	if err := unix.Fremovexattr(r.tree.top.fd, recordXattr); err != nil {
		return nil, fmt.Errorf("removing the record of a checkpoint: %w", err)
	}
	return nil, nil
}

// carryOn takes over what the record says.
func (r *Receiver) carryOn(c *record) {
	r.rootTime, r.uuid, r.transid = c.rootTime, btrfs.UUID(c.identity.UUID), c.identity.Transid
	r.resumed, r.resumedState = c.mark, c.state
	r.log.Debug("carrying on an interrupted receive", "snapshot", r.o.Name, "offset", c.mark.Offset)
}

// discard closes and deletes a checkpoint. Why it cannot be used is nil where
// another is better.
func (r *Receiver) discard(f *os.File, why error) error {
	defer release(f)
	if why != nil {
		r.log.Info("Deleting a checkpoint of an interrupted receive that cannot be carried on: "+f.Name(), "because", why)
	}
	if err := remove(r.o.Dir, f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
