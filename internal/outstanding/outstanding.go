// Package outstanding reads and writes .outstanding_transfers, btrfs-backup's
// record of transfers that were begun and not finished. (Work in progress.)
package outstanding

// Kind is what a snapshot has to do with a transfer.
type Kind string

const (
	// Sent: the transfer is of this snapshot ("locks").
	Sent Kind = "locks"
	// Parent: the transfer starts from this snapshot ("parent_locks").
	Parent Kind = "parent_locks"
)

// Transfers is the content of the file.
type Transfers struct{}

// Parse reads the file; empty or blank text is no transfers.
func Parse(text []byte) (*Transfers, error) { return &Transfers{}, nil }

// Format writes the file as btrfs-backup does, entries of unknown names included.
func (t *Transfers) Format() []byte { return []byte("{}") }

// Destinations returns the ids for which a snapshot is locked in a way, in order.
func (t *Transfers) Destinations(name string, k Kind) []string { return nil }

// All returns every id that any snapshot is locked for as sent, each once, in
// the order of the file (--locked-dests).
func (t *Transfers) All() []string { return nil }

// Names returns the snapshots that are locked in any way, in the order of the file.
func (t *Transfers) Names() []string { return nil }

// Add locks a snapshot for a destination, and reports whether it was not locked.
func (t *Transfers) Add(name string, k Kind, destination string) bool { return false }

// Drop unlocks a snapshot for a destination, and reports whether it was locked.
func (t *Transfers) Drop(name string, k Kind, destination string) bool { return false }
