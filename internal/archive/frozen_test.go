package archive_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/dir"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// TestFrozen reads archives that the program has once stored, in every form that
// it can make again. They are never made anew: whatever a version has written, all
// later ones read.
func TestFrozen(t *testing.T) {
	_, keys := pair(t)
	// The SHA-256 of the streams, by the paths of their snapshots.
	want := map[string]string{
		"one":      "194553ad5573c060ee383dd07cc1a467501c32aef47686ded488c72f09b0cced",
		"thr e%41": "e902484072e96f14bab468336ab1f7d26cdc532c54637f4366f39960e798b1ec",
		"two":      "2df92a05922de4fcbc3b43d04791f689eec1e0ba8bc562065f9e7657d5019df7",
	}
	for _, form := range []string{"plain", "zst", "age", "zst.age"} {
		t.Run(form, func(t *testing.T) {
			b, err := dir.Open(filepath.Join("testdata", "v1", form), dir.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s, err := archive.Open(t.Context(), b, archive.Options{Keys: keys})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			inv, err := s.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(inv.Edges) != len(want) || len(inv.Warnings) > 0 {
				t.Errorf("%d edges, %q", len(inv.Edges), inv.Warnings)
			}
			for _, e := range inv.Edges {
				snap, _ := inv.Find(e.To)
				if got := digest(t, s, e.Edge); got != want[snap.Path] {
					t.Errorf("the stream of %q has the SHA-256 %s, want %s", snap.Path, got, want[snap.Path])
				}
			}
			if sizes, err := s.KnownSizes(t.Context()); err != nil || len(sizes) == 0 {
				t.Errorf("known sizes: %v, %v", sizes, err)
			}
			v, err := s.Verify(t.Context(), store.VerifyOptions{Data: true, Found: func(f store.Finding) {
				if f.Verdict != store.Sound {
					t.Errorf("%+v", f)
				}
			}})
			if err != nil || v.Streams[store.Sound] != len(want) || v.Undescribed != 0 {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}

// digest is the SHA-256 of the stream of an edge.
func digest(t *testing.T, s *archive.Store, e snapshot.Edge) string {
	t.Helper()
	in, err := s.Open(t.Context(), store.Request{Edge: e})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}
