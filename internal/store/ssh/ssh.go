// Package ssh is the store of snapshots in a btrfs directory of another machine
// on which buttersink is installed, and the server there: [Store] is the client,
// [Serve] the other end. What they say to each other is in docs/protocol.md.
//
// It knows greetings, calls and what each of the two ends does for them. It does
// not know how bytes are framed (wire), how the other machine is reached (dial), or
// what a btrfs is: the server has any live store.
//
// Invariants:
//
//   - Neither side believes the other. The server looks at modes, paths and streams
//     by itself; the client bounds what it is told, and takes a stream for whole only
//     when the server says so and END has come.
//   - An error arrives as what it was: errors.Is and errors.AsType find the same.
//   - A client that has lost its connection says store.Temporary. The next call
//     connects again, and goes on only when the lock is held again and the place is
//     still the same one.
//   - Who gives something up on the client waits until the server has undone it, or
//     is known to be gone.
//
// Memory: of the client, the listing while it is read (some 2 KiB for each
// snapshot), and the windows of wire; of the server, see serve.go.
//
//	st, err := ssh.Open(ctx, ssh.Options{Target: dial.Target{Host: "backup"}, Dir: "/mnt/b/snaps/", Mode: ssh.Append})
//	inv, err := st.List(ctx)
package ssh

import (
	"fmt"
	"time"
)

// Mode says what a client may do. Each includes those before it.
type Mode string

// The modes, as the command line of the server has them.
const (
	// Read lists, measures and reads streams.
	Read Mode = "r"
	// Append also makes snapshots where there is nothing, of streams and of the
	// subvolume that the server's command line names.
	Append Mode = "a"
	// Write also removes snapshots and unfinished things, and keeps notes.
	Write Mode = "w"
)

// ParseMode reads a mode.
func ParseMode(text string) (Mode, error) {
	switch m := Mode(text); m {
	case Read, Append, Write:
		return m, nil
	}
	return "", fmt.Errorf("mode %q is not known: want r, a or w", text)
}

// Wishes are what the client asks of the store that the server opens: those
// options of a btrfs directory that are not the server's own affair.
type Wishes struct {
	// Protocol is the highest version of the streams that the client wants; 0 is
	// the best that the server has.
	Protocol uint32 `json:"protocol,omitempty"`
	// KernelSend and Plain are those of local.Options.
	KernelSend bool `json:"kernel_send,omitempty"`
	Plain      bool `json:"plain,omitempty"`
	// CheckpointBytes and CheckpointEvery are those of replay.Checkpoints.
	CheckpointBytes int64         `json:"checkpoint_bytes,omitempty"`
	CheckpointEvery time.Duration `json:"checkpoint_every,omitempty"`

	// Mode is what the client may do at most. The server says it to
	// ServeOptions.Open; it is not sent.
	Mode Mode `json:"-"`
}
