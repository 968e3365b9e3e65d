package glacier

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const sampleInventory = `{"VaultARN":"arn:aws:glacier:us-east-1:111122223333:vaults/Backup","InventoryDate":"2011-12-12T14:19:01Z",
"ArchiveList":[{"ArchiveId":"ID-1","ArchiveDescription":"btrsend backup for 2014-01-01 (complete)","CreationDate":"2011-12-12T14:11:33.000Z",
"Size":2140123,"SHA256TreeHash":"6b9d4cf8697bd3af6aa1b590a0b27b337da5b18988dbcc619a3e608a554a1e62","New":{"a":[1]}}],"More":null}`

func TestParseInventory(t *testing.T) {
	got, err := ParseInventory(strings.NewReader(sampleInventory))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := ParseTreeHash("6b9d4cf8697bd3af6aa1b590a0b27b337da5b18988dbcc619a3e608a554a1e62")
	if err != nil {
		t.Fatal(err)
	}
	want := &Inventory{
		Taken: time.Date(2011, 12, 12, 14, 19, 1, 0, time.UTC),
		Archives: []Stored{{
			ID: "ID-1", Description: "btrsend backup for 2014-01-01 (complete)", Size: 2140123, Tree: tree,
			Created: time.Date(2011, 12, 12, 14, 11, 33, 0, time.UTC),
		}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for i := range len(sampleInventory) {
		if _, err := ParseInventory(strings.NewReader(sampleInventory[:i])); err == nil {
			t.Errorf("the first %d bytes are taken for an inventory", i)
		}
	}
	for _, text := range []string{
		"[]", "null", "{}", `{"InventoryDate":"2011-12-12T14:19:01Z"}`, `{"ArchiveList":[]}`, `{"InventoryDate":"now","ArchiveList":[]}`,
		`{"InventoryDate":"2011-12-12T14:19:01Z","ArchiveList":[],"ArchiveList":[]}`,
		`{"InventoryDate":"2011-12-12T14:19:01Z","ArchiveList":[{"ArchiveId":"a","Size":-1,"CreationDate":"2011-12-12T14:11:33Z"}]}`,
	} {
		if got, err := ParseInventory(strings.NewReader(text)); err == nil {
			t.Errorf("%s is taken for %+v", text, got)
		}
	}
}

func FuzzParseInventory(f *testing.F) {
	f.Add([]byte(sampleInventory))
	f.Add([]byte(`{"ArchiveList":[],"InventoryDate":"2011-12-12T14:19:01Z"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ParseInventory(strings.NewReader(string(text)))
		if err != nil {
			return
		}
		if got.Taken.IsZero() {
			t.Error("an inventory of no time")
		}
		for _, a := range got.Archives {
			if a.ID == "" || a.Size < 0 || a.Created.IsZero() {
				t.Errorf("an archive that cannot be: %+v", a)
			}
		}
	})
}
