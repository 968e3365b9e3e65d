package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/buttersink/buttersink/internal/snapshot"
)

// TestSum: a manifest in which any one bit has changed is not taken for what was
// written.
func TestSum(t *testing.T) {
	m := &Manifest{
		Format: manifestFormat, To: snapshot.ID{1}, From: snapshot.ID{2}, Path: "home/a", Key: "p/home/a/b",
		Object: ObjectContent{Bytes: 12, Tag: "tag"}, By: "buttersink 1",
	}
	text := m.encode()
	if err := checkSum(text); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	if _, err := parseManifest(text); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	for i := range text {
		for bit := range 8 {
			text[i] ^= 1 << bit
			if checkSum(text) == nil {
				t.Errorf("a change of bit %d of byte %d does not show:\n%s", bit, i, text)
			}
			text[i] ^= 1 << bit
		}
	}
	if err := checkSum([]byte(`{"format": 1}`)); !errors.Is(err, errNoSum) {
		t.Errorf("without a checksum: %v", err)
	}
	if err := checkSum([]byte("{" + sumField + `1"}`)); !errors.Is(err, errNoSum) {
		t.Errorf("with half of one: %v", err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil || checkSum(b.Bytes()) != nil {
		t.Errorf("white space counts: %v, %s", err, &b)
	}
}
