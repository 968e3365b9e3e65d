package ssh

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// The messages of docs/protocol.md. Each is one JSON object. Fields that a
// receiver does not know are passed over, and those that are missing are zero.

// The calls, by the name that a request has them under.
const (
	callList          = "list"
	callInspect       = "inspect"
	callChoose        = "choose"
	callOpen          = "open"
	callCreate        = "create"
	callCopy          = "copy"
	callRemove        = "remove"
	callRemovePartial = "remove_partial"
	callEstimate      = "estimate"
	callMeasure       = "measure"
	callProve         = "prove"
	callKnownSizes    = "known_sizes"
	callKeepSizes     = "keep_sizes"
	callLock          = "lock"
	callSettle        = "settle"

	callOrigin         = "origin"
	callLockTaking     = "lock_taking"
	callSnapshot       = "snapshot"
	callReadNote       = "read_note"
	callWriteNote      = "write_note"
	callReclaim        = "reclaim"
	callRemoveLeftover = "remove_leftover"
)

// request begins a call. Which fields count depends on the call.
type request struct {
	Call string `json:"call"`

	Edge     edge          `json:"edge,omitzero"`      // open, estimate, measure
	Clones   []snapshot.ID `json:"clones,omitzero"`    // open, estimate, measure
	After    *mark         `json:"after,omitempty"`    // open: what is before it is left out
	Want     *want         `json:"want,omitempty"`     // create, copy
	Paths    []path        `json:"paths,omitzero"`     // inspect, known_sizes
	ID       snapshot.ID   `json:"id,omitzero"`        // choose
	Path     path          `json:"path,omitzero"`      // choose, keep_sizes, snapshot, remove_leftover
	Snapshot *listed       `json:"snapshot,omitempty"` // remove, prove
	Partial  *partial      `json:"partial,omitempty"`  // remove_partial
	Sizes    []noted       `json:"sizes,omitzero"`     // keep_sizes
	Who      string        `json:"who,omitzero"`       // lock, lock_taking
	Name     string        `json:"name,omitzero"`      // read_note, write_note
	Was      []byte        `json:"was,omitzero"`       // write_note: the SHA-256 of the note as it was; missing for none
}

// What follows a request, from either side, in order. "Data" are the bytes of a
// call that are not messages.
//
//	list            <- data: JSON lines, each an entry; then the answer
//	inspect         <- answer with Ways
//	choose          <- answer
//	open            <- answer with State (nil from the start); then data: the stream; then the answer that ends it
//	create          <- answer with Mark; -> instruction; -> data: the stream; -> commit; <- answer
//	copy            <- answer
//	remove          <- answer
//	remove_partial  <- answer
//	estimate        <- answer with Size
//	measure         <- answer with Size
//	prove           <- answer with Trust
//	known_sizes     <- data: JSON lines, each a noted; then the answer
//	keep_sizes      <- answer
//	lock            <- answer; held until -> commit; <- answer, or until the call or the connection ends
//	lock_taking     as lock
//	settle          <- answer, when all that was begun for calls that had been cancelled before it is undone
//	origin          <- answer with ID
//	snapshot        <- answer with Snapshot
//	read_note       <- data: the note; then the answer
//	write_note      -> data: the note, nothing to remove it; -> commit; <- answer
//	reclaim         <- answer
//	remove_leftover <- answer

// answer is what the server says. The last one of a call ends it.
type answer struct {
	Error *failure `json:"error,omitempty"` // the rest is zero then, but for Ways
	Ways  ways     `json:"ways,omitempty"`
	State []byte   `json:"state,omitempty"` // of stream.Reader, base64
	Mark  *mark    `json:"mark,omitempty"`
	Size  *size    `json:"size,omitempty"`
	Trust int      `json:"trust,omitempty"`

	ID       snapshot.ID `json:"id,omitzero"`
	Snapshot *listed     `json:"snapshot,omitempty"`
}

// ways says what is in the way, by path. Package json writes keys that are strings
// as they are, whatever their MarshalText says.
type ways map[path]string

// MarshalJSON writes an object.
func (w ways) MarshalJSON() ([]byte, error) {
	escaped := make(map[string]string, len(w))
	for p, what := range w {
		escaped[snapshot.EscapePath(string(p))] = what
	}
	return json.Marshal(escaped)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (w *ways) UnmarshalJSON(text []byte) error {
	var escaped map[string]string
	if err := json.Unmarshal(text, &escaped); err != nil {
		return err
	}
	*w = make(ways, len(escaped))
	for p, what := range escaped {
		(*w)[path(snapshot.UnescapePath(p))] = what
	}
	return nil
}

// instruction is what the client says after the request of create or of a lock.
type instruction struct {
	// Commit ends a create: all of the stream has been sent. It ends a lock, too.
	Commit bool `json:"commit,omitempty"`
}

// path is a path as it stands in messages: bytes that are no part of valid UTF-8,
// control characters, and a '%' that two upper-case hexadecimal digits follow,
// are written %XX.
type path string

// MarshalText writes a path so that JSON can carry it.
func (p path) MarshalText() ([]byte, error) { return []byte(snapshot.EscapePath(string(p))), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *path) UnmarshalText(text []byte) error {
	*p = path(snapshot.UnescapePath(string(text)))
	return nil
}

type edge struct {
	To   snapshot.ID `json:"to"`
	From snapshot.ID `json:"from,omitzero"`
}

type mark struct {
	Offset   int64  `json:"offset"`
	Commands int64  `json:"commands"`
	Digest   []byte `json:"digest"` // 32 bytes, base64
}

func markOf(m store.Mark) *mark { return &mark{m.Offset, m.Commands, m.Digest[:]} }

// mark returns the place that a message says; the start for none.
func (m *mark) mark() (store.Mark, error) {
	if m == nil {
		return store.Mark{}, nil
	}
	out := store.Mark{Offset: m.Offset, Commands: m.Commands}
	if len(m.Digest) != len(out.Digest) || m.Offset < 0 || m.Commands < 0 {
		return store.Mark{}, fmt.Errorf("a message has no place in a stream: offset %d, %d commands, a digest of %d bytes", m.Offset, m.Commands, len(m.Digest))
	}
	copy(out.Digest[:], m.Digest)
	return out, nil
}

type want struct {
	Edge        edge   `json:"edge"`
	Transid     uint64 `json:"transid,omitempty"`
	FromTransid uint64 `json:"from_transid,omitempty"`
	Path        path   `json:"path"`
	Size        *size  `json:"size,omitempty"`
	Fresh       bool   `json:"fresh,omitempty"`
}

// size is a known size; nil stands for one that is not.
type size struct {
	Bytes int64 `json:"bytes"`
	Exact bool  `json:"exact,omitempty"`
}

func sizeOf(s snapshot.Size) *size {
	if !s.Known {
		return nil
	}
	return &size{s.Bytes, s.Exact}
}

func (s *size) size() snapshot.Size {
	if s == nil {
		return snapshot.Size{}
	}
	return snapshot.Size{Bytes: s.Bytes, Known: true, Exact: s.Exact}
}

// noted is the length of the stream of an edge.
type noted struct {
	Edge  edge  `json:"edge"`
	Bytes int64 `json:"bytes"`
}

type partial struct {
	Path path   `json:"path"`
	Ours bool   `json:"ours,omitempty"`
	Why  string `json:"why,omitempty"`
}

// listed is a snapshot.Snapshot.
type listed struct {
	ID         snapshot.ID `json:"id"`
	Transid    uint64      `json:"transid,omitempty"`
	Path       path        `json:"path"`
	Copies     []listed    `json:"copies,omitempty"`
	Outside    bool        `json:"outside,omitempty"`
	UUID       snapshot.ID `json:"uuid"`
	Parent     snapshot.ID `json:"parent,omitzero"`
	Received   bool        `json:"received,omitempty"`
	Pristine   bool        `json:"pristine,omitempty"`
	Generation uint64      `json:"generation,omitempty"`
	Created    time.Time   `json:"created,omitzero"`
	Trust      int         `json:"trust,omitempty"`
	Handle     uint64      `json:"handle,omitempty"`
	Size       *size       `json:"size,omitempty"`
	Exclusive  *size       `json:"exclusive,omitempty"`
}

// entry is one line of a listing: exactly one of its fields is set.
type entry struct {
	Head     *head    `json:"head,omitempty"` // the first line
	Snapshot *listed  `json:"snapshot,omitempty"`
	Partial  *partial `json:"partial,omitempty"`
	Line     *line    `json:"line,omitempty"`
	Occupied *in      `json:"occupied,omitempty"`
	Warning  string   `json:"warning,omitempty"`
}

// head is what an inventory says besides.
type head struct {
	Dir path `json:"dir"`
}

// line is an entry of snapshot.Inventory.Lineage, and of Born if it has one.
type line struct {
	ID     snapshot.ID `json:"id"`
	Parent snapshot.ID `json:"parent,omitzero"`
	Born   uint64      `json:"born,omitempty"`
}

// in is an entry of snapshot.Inventory.Occupied.
type in struct {
	Path path   `json:"path"`
	What string `json:"what"`
}

// greeting is the JSON in the first line that each side sends: "buttersink-protocol
// 1 " and this.
type greeting struct {
	// Program is the version of the program, for people.
	Program string `json:"program"`
	// Lowest and Highest are the versions of the protocol that are understood;
	// both sides use the highest that both have.
	Lowest  int `json:"lowest"`
	Highest int `json:"highest"`
	// Compress is set if compressed data are understood.
	Compress bool `json:"compress,omitempty"`

	// Of the client: what it thinks that the server serves, and what it asks for.
	Dir    path   `json:"dir,omitzero"`
	Mode   Mode   `json:"mode,omitzero"`
	Wishes Wishes `json:"wishes,omitzero"`
	// Of is the subvolume that it thinks snapshots are made of.
	Of path `json:"of,omitzero"`

	// Of the server, in answer: either why it does not serve, or what it serves.
	Error *failure `json:"error,omitempty"`
	// Name is that of the store, Location its store.Located, Forms its
	// store.Measurer.Form of a full stream and of an increment.
	Name     string    `json:"name,omitempty"`
	Location path      `json:"location,omitzero"`
	Forms    [2]string `json:"forms,omitzero"`
}

// failure is an error on the wire. Kind is one of those in errors.go, and says
// which of the fields count besides Text.
type failure struct {
	Text      string      `json:"text"` // for people, whole
	Kind      string      `json:"kind,omitempty"`
	Temporary bool        `json:"temporary,omitempty"`
	Errno     int         `json:"errno,omitempty"`
	Path      path        `json:"path,omitzero"`
	What      string      `json:"what,omitempty"`
	ID        snapshot.ID `json:"id,omitzero"`
	Store     string      `json:"store,omitempty"`
	Holder    string      `json:"holder,omitempty"`
	Mode      Mode        `json:"mode,omitempty"`
}
