package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/ssh/wire"

	slashed "path"
)

// service is how a call is served.
type service struct {
	// least is the mode that it takes.
	least Mode
	// serve answers the call. What it returns is the last message; it has ended
	// by then whatever it has begun.
	serve func(s *server, ctx context.Context, call *wire.Call, q *request) (answer, error)
}

// services are the calls that are known, and what each of them takes. What a
// mode allows stands here and nowhere else, but that keep_sizes does less in
// Append than in Write.
var services = map[string]service{
	callList:       {Read, (*server).list},
	callInspect:    {Read, (*server).inspect},
	callChoose:     {Read, (*server).choose},
	callOpen:       {Read, (*server).open},
	callEstimate:   {Read, (*server).estimate},
	callMeasure:    {Read, (*server).measure},
	callProve:      {Read, (*server).prove},
	callKnownSizes: {Read, (*server).knownSizes},
	// Every call waits for those that have been given up; this one does nothing else.
	callSettle: {Read, func(*server, context.Context, *wire.Call, *request) (answer, error) { return answer{}, nil }},

	callOrigin:   {Read, (*server).origin},
	callReadNote: {Read, (*server).readNote},

	callLock:       {Append, (*server).lock},
	callCreate:     {Append, (*server).create},
	callCopy:       {Append, (*server).copy},
	callKeepSizes:  {Append, (*server).keepSizes},
	callSnapshot:   {Append, (*server).snapshot},
	callLockTaking: {Append, (*server).lockTaking},

	callRemove:         {Write, (*server).remove},
	callRemovePartial:  {Write, (*server).removePartial},
	callRemoveLeftover: {Write, (*server).removeLeftover},
	callWriteNote:      {Write, (*server).writeNote},
	callReclaim:        {Write, (*server).reclaim},
}

// allows reports whether a mode includes another.
func (m Mode) allows(least Mode) bool {
	const ordered = string(Read + Append + Write)
	has, need := strings.Index(ordered, string(m)), strings.Index(ordered, string(least))
	return len(m) == 1 && len(least) == 1 && has >= 0 && need >= 0 && has >= need
}

// unknownCall is how a server says that it is older than a client.
const unknownCall = "this server does not know the call"

// permits returns how a call is served, or why it is not in this mode.
func (m Mode) permits(call string) (service, error) {
	what, ok := services[call]
	switch {
	case !ok:
		return service{}, fmt.Errorf("%s: %w: %s", quoteStart([]byte(call)), errors.ErrUnsupported, unknownCall)
	case !m.allows(what.least):
		return service{}, &ModeError{Mode: m, Call: call}
	}
	return what, nil
}

// What a request may ask for at once. The messages have a limit of their own.
const (
	maxPaths  = 1000 // of inspect and known_sizes
	maxClones = 1000 // of open, estimate and measure
	maxSizes  = 5000 // of keep_sizes
	maxPath   = 4095 // bytes of a path, as PATH_MAX allows
	maxWho    = 300  // bytes of what a lock's holder is called
)

// parseRequest reads a request, and refuses one that asks for too much at once
// or has paths that can be none below a directory.
func parseRequest(raw []byte) (*request, error) {
	q := &request{}
	// Of a snapshot, what names it: the rest is not looked at, and could take
	// hundreds of times as much memory as it is long.
	read := struct {
		*request
		Snapshot *struct {
			ID      snapshot.ID `json:"id"`
			Path    path        `json:"path"`
			Outside bool        `json:"outside"`
			UUID    snapshot.ID `json:"uuid"`
		} `json:"snapshot"`
	}{request: q}
	if err := json.Unmarshal(raw, &read); err != nil {
		return nil, fmt.Errorf("reading a request: %w", err)
	}
	if x := read.Snapshot; x != nil {
		q.Snapshot = &listed{ID: x.ID, Path: x.Path, Outside: x.Outside, UUID: x.UUID}
	}
	for _, limit := range []struct {
		what    string
		n, most int
	}{
		{"paths", len(q.Paths), maxPaths}, {"clone sources", len(q.Clones), maxClones}, {"sizes", len(q.Sizes), maxSizes},
	} {
		if limit.n > limit.most {
			return nil, fmt.Errorf("reading a request: %d %s at once, and %d are allowed", limit.n, limit.what, limit.most)
		}
	}
	return q, nil
}

// checkPath returns an error unless a snapshot can be at a path below the
// directory.
func checkPath(p path) error {
	text := string(p)
	if !isBelow(text) || snapshot.IsPart(text) || store.IsNotePlace(text) {
		return fmt.Errorf("%q is not a usable path for a snapshot", shortened(text))
	}
	return nil
}

// isBelow reports whether a path is clean, and one below the directory that it
// is relative to.
func isBelow(p string) bool {
	return filepath.IsLocal(p) && slashed.Clean(p) == p && p != "." && len(p) <= maxPath && strings.IndexByte(p, 0) < 0
}

// shortened returns the beginning of a text that may be long.
func shortened(text string) string {
	if len(text) > 200 {
		return text[:200] + "..."
	}
	return text
}
