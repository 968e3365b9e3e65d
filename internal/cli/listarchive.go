package cli

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"path"
	"regexp"
	"slices"
	"time"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/btrsend"
	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/job"
	"github.com/buttersink/buttersink/internal/meter"
	"github.com/buttersink/buttersink/internal/snapshot"
)

// streamRecord is a stream that an archive keeps.
type streamRecord struct {
	Event string      `json:"event"` // "stream"
	To    snapshot.ID `json:"to"`
	From  snapshot.ID `json:"from,omitzero"`
	Path  string      `json:"path"` // of the snapshot, relative to the archive
	At    string      `json:"at"`   // the whole path
	// Bytes is how long the stream is, null if it is sealed; StoredBytes is how long
	// the object is.
	Bytes       *int64    `json:"bytes"`
	StoredBytes int64     `json:"stored_bytes"`
	Stored      time.Time `json:"stored,omitzero"`
	Form        string    `json:"form"` // "", ".zst.age"
	Key         string    `json:"key"`
	Described   bool      `json:"described"`
	Class       string    `json:"class,omitempty"`
	Cold        bool      `json:"cold,omitempty"`
}

// streamsOf gives the streams that are meant, of an archive or of what btrsend has
// left; nil of anything else.
func streamsOf(ctx context.Context, st *opened, exclude []*regexp.Regexp) (iter.Seq[archive.Kept], error) {
	switch s := st.Store.(type) {
	case *archive.Store:
		return keptOf(s, st.Name, exclude), nil
	case *btrsend.Store:
		return backupsOf(ctx, s, st.Name, exclude)
	}
	return nil, nil
}

// backupsOf is keptOf for what btrsend has left. Whether something is readable only
// the vault could tell.
func backupsOf(ctx context.Context, st *btrsend.Store, name string, exclude []*regexp.Regexp) (iter.Seq[archive.Kept], error) {
	var all []archive.Kept
	for h, err := range st.Holdings(ctx) {
		if err != nil {
			return nil, err
		}
		if name != "" && path.Base(h.Path) != name || leftOut(exclude, h.Path) {
			continue
		}
		all = append(all, archive.Kept{
			Edge: h.Edge, Path: h.Path, Key: h.Key, Size: h.Bytes, Modified: h.Since, Class: h.Class,
			Form: seal.Form{Compressed: true, Gzip: true, Cipher: seal.GPG},
		})
	}
	return slices.Values(all), nil
}

// keptOf gives the streams of an archive that are meant, ordered by path.
func keptOf(st *archive.Store, name string, exclude []*regexp.Regexp) iter.Seq[archive.Kept] {
	return func(yield func(archive.Kept) bool) {
		for k := range st.Kept() {
			if name != "" && path.Base(k.Path) != name || leftOut(exclude, k.Path) {
				continue
			}
			if !yield(k) {
				return
			}
		}
	}
}

// edgeText is "ea7c...3ea1 /pre/fix/A from 6dc7...3ad8 /pre/fix/B", as
// ButterSink writes it.
func edgeText(inv *snapshot.Inventory, e snapshot.Edge, at string) string {
	from := "None"
	if !e.IsFull() {
		from = e.From.Short() + ", which is not here"
		if parent, ok := inv.Find(e.From); ok {
			from = e.From.Short() + " " + inv.Where(parent)
		}
	}
	return e.To.Short() + " " + path.Join(inv.Dir, at) + " from " + from
}

// printKept writes ButterSink's lines: the edge, how long it is as it is stored,
// and what it is sealed with.
func printKept(env *Env, l *job.Listing, all iter.Seq[archive.Kept]) {
	out := bufio.NewWriterSize(env.Stdout, 64<<10)
	var total int64
	n := 0
	for k := range all {
		n++
		notes := meter.Bytes(k.Size)
		if form := k.Form.Suffix(); form != "" {
			notes += " " + form
		}
		if k.Cold {
			notes += ", has to be thawed"
		}
		total += k.Size
		out.WriteString(printable(edgeText(l.Inventory, k.Edge, k.Path)) + " (" + notes + ")\n")
	}
	if n > 0 {
		fmt.Fprintf(out, "TOTAL: %d diffs %s\n", n, meter.Bytes(total))
	}
	out.Flush() // env.Stdout keeps the error
}

func recordKept(out *records, l *job.Listing, all iter.Seq[archive.Kept]) {
	for k := range all {
		var size snapshot.Size
		if k.Form.Plain() {
			size = snapshot.ExactSize(k.Size)
		}
		out.put(streamRecord{
			Event: "stream", To: k.To, From: k.From, Path: validText(k.Path), At: validText(path.Join(l.Inventory.Dir, k.Path)),
			Bytes: bytesOf(size), StoredBytes: k.Size, Stored: k.Modified,
			Form: k.Form.Suffix(), Key: validText(k.Key), Described: k.Described, Class: k.Class, Cold: k.Cold,
		})
	}
}
