package btrfs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRootItem(t *testing.T) {
	whole := make([]byte, rootItemSize)
	disk.PutUint64(whole[160:], 42) // generation
	disk.PutUint64(whole[208:], rootReadOnly)
	disk.PutUint32(whole[216:], 1)
	whole[238] = 3
	disk.PutUint64(whole[239:], 42)
	whole[247], whole[263], whole[279] = 1, 2, 3
	for i, at := range []int{295, 303, 311, 319} {
		disk.PutUint64(whole[at:], uint64(10+i))
	}
	disk.PutUint64(whole[339:], 1000)
	disk.PutUint32(whole[347:], 5)
	modern := Subvolume{
		Generation: 42, Level: 3, ReadOnly: true,
		UUID: UUID{1}, ParentUUID: UUID{2}, ReceivedUUID: UUID{3},
		Ctransid: 10, Otransid: 11, Stransid: 12, Rtransid: 13,
		Otime: time.Unix(1000, 5),
	}
	outdated := append([]byte(nil), whole...)
	disk.PutUint64(outdated[160:], 43)
	gone := append([]byte(nil), whole[:rootItemOldSize]...)
	disk.PutUint32(gone[216:], 0)
	for _, c := range []struct {
		name string
		data []byte
		want Subvolume
	}{
		{"modern", whole, modern},
		{"without UUIDs", whole[:rootItemOldSize], Subvolume{Generation: 42, Level: 3, ReadOnly: true}},
		{"changed by an old kernel", outdated, Subvolume{Generation: 43, Level: 3, ReadOnly: true}},
		{"deleted", gone, Subvolume{Generation: 42, Level: 3, ReadOnly: true, Deleted: true}},
	} {
		var got Subvolume
		if err := rootItem(c.data, &got); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
	}
	if err := rootItem(whole[:rootItemOldSize-1], &Subvolume{}); err == nil {
		t.Error("a short item is taken")
	}
}

func TestRootBackref(t *testing.T) {
	data := append(make([]byte, 18), "name and more"...)
	disk.PutUint64(data, 257)
	disk.PutUint16(data[16:], 4)
	dir, name, err := rootBackref(data)
	if dir != 257 || name != "name" || err != nil {
		t.Errorf("got %d, %q, %v", dir, name, err)
	}
	disk.PutUint16(data[16:], 400)
	if _, _, err := rootBackref(data); err == nil {
		t.Error("a name longer than the item is taken")
	}
}

func FuzzItems(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 21))
	f.Add(make([]byte, 53))
	f.Add(make([]byte, 160))
	f.Add(make([]byte, rootItemOldSize))
	f.Add(make([]byte, rootItemSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Subvolume
		_ = rootItem(data, &s)
		_, _, _ = rootBackref(data)
		_, _ = inodeRefName(data)
		_, _ = qgroupInfo(data)
		_, _ = qgroupOn(data)
		e := estimator{shared: make(map[uint64]struct{})}
		for _, kind := range []uint8{inodeItemType, xattrItemType, extentDataType} {
			_ = e.add(item{key: key{object: 257, kind: kind}, data: data})
		}
	})
}

func FuzzFoundItems(f *testing.F) {
	one := make([]byte, searchHeaderSize+3)
	one[24], one[28] = inodeItemType, 3
	f.Add(one, uint32(1))
	f.Add(one, uint32(2))
	f.Fuzz(func(t *testing.T, data []byte, count uint32) {
		total := 0
		for it, err := range foundItems(data, count) {
			if err != nil {
				return
			}
			total += searchHeaderSize + len(it.data)
		}
		if total > len(data) {
			t.Errorf("%d bytes of items in %d", total, len(data))
		}
	})
}

func TestKeyNext(t *testing.T) {
	const top = ^uint64(0)
	for _, c := range []struct {
		from, want key
		ok         bool
	}{
		{key{1, 2, 3}, key{1, 2, 4}, true},
		{key{1, 2, top}, key{1, 3, 0}, true},
		{key{1, 255, top}, key{2, 0, 0}, true},
		{key{top, 255, top}, key{top, 255, top}, false},
	} {
		if got, ok := c.from.next(); got != c.want || ok != c.ok {
			t.Errorf("after %v comes %v, %v; want %v, %v", c.from, got, ok, c.want, c.ok)
		}
	}
}

func TestUUID(t *testing.T) {
	u := UUID{0xea, 0x7c, 15: 0xa1}
	if got, want := u.String(), "ea7c0000-0000-0000-0000-0000000000a1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if u.IsZero() || !(UUID{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}
