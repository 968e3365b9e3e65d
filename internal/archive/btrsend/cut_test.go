package btrsend_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/stream"
)

// Storing is given up at any moment, and the vault is in trouble meanwhile: each
// row has its whole archive, each archive its row, and no upload is left.
func TestCutAnywhere(t *testing.T) {
	keyring(t)
	b := begin(t, &rows{})
	rng := rand.New(rand.NewPCG(7, 7))
	date := schedule.Date{Year: 2014, Month: 1, Day: 1}
	raws := map[string][]byte{}
	stored, given := 0, 0
	most := 250 * time.Millisecond // that one may take; comes to what this machine needs
	for i := 0; i < 60 && (i < 15 || stored < 3 || given < 3); i++ {
		date = date.AddDays(1)
		raw := made(t, snapshot.ID{byte(i), 15: 9}, snapshot.ID{}, 1<<20+rng.IntN(2<<20))
		raws[date.String()] = raw
		switch rng.IntN(4) {
		case 0:
			b.server.Lose(1, "CompleteMultipartUpload")
		case 1:
			b.server.CutUp(1, int64(rng.IntN(1<<20)), "UploadMultipartPart")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.Int64N(int64(most))))
		err := b.putUntil(ctx, date.String(), raw)
		cancel()
		b.server.Calm()
		if err == nil {
			stored++
			most = most * 9 / 10
		} else {
			given++
			most = most * 5 / 4
		}
		if up := b.server.Uploads(t, vault); len(up) > 0 {
			t.Fatalf("there are still the uploads %v", up)
		}
		if got, there := len(b.rows.all), len(b.server.Archives(t, vault)); got != stored || there != stored {
			t.Fatalf("%d are stored, and there are %d rows and %d archives (%v)", stored, got, there, err)
		}
	}
	if stored == 0 || given == 0 {
		t.Errorf("%d were stored and %d given up: that is no test", stored, given)
	}
	for _, r := range b.rows.all {
		if got := undone(t, b.server.Content(t, vault, r.Archive)); !bytes.Equal(got, raws[r.Date]) {
			t.Errorf("the backup of %s is not what it was", r.Date)
		}
	}
}

// putUntil stores a complete stream, until ctx ends.
func (b *bench) putUntil(ctx context.Context, date string, raw []byte) error {
	w, err := b.store.Create(ctx, store.Want{Path: date, Edge: snapshot.Edge{To: snapshot.ID{1}}})
	if err != nil {
		return err
	}
	defer func() {
		if err := w.Close(); err != nil {
			b.Error(err)
		}
	}()
	in := stream.NewReader(bytes.NewReader(raw))
	for {
		part, err := in.NextRun()
		if err != nil {
			break
		}
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
	return w.Commit(ctx)
}
