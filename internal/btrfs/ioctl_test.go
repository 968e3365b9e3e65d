package btrfs

import (
	"testing"
	"unsafe"
)

// The kernel's numbers contain the sizes of what is passed: bits 16 to 29.
func TestLayouts(t *testing.T) {
	const encodedSize = 0x3FFF << 16
	for _, c := range []struct {
		name   string
		size   uintptr
		want   uintptr
		number uint // 0: none
	}{
		{"volArgs", unsafe.Sizeof(volArgs{}), 4096, iocSubvolCreate},
		{"volArgs", unsafe.Sizeof(volArgs{}), 4096, iocSnapDestroy},
		{"volArgsV2", unsafe.Sizeof(volArgsV2{}), 4096, iocSnapCreateV2},
		{"volArgsV2", unsafe.Sizeof(volArgsV2{}), 4096, iocSnapDestroyV2},
		{"flags", unsafe.Sizeof(uint64(0)), 8, iocSubvolGetFlags},
		{"flags", unsafe.Sizeof(uint64(0)), 8, iocSubvolSetFlags},
		{"transid", unsafe.Sizeof(uint64(0)), 8, iocStartSync},
		{"transid", unsafe.Sizeof(uint64(0)), 8, iocWaitSync},
		{"searchArgs", unsafe.Sizeof(searchArgs{}), 112, iocTreeSearchV2},
		{"searchKey", unsafe.Sizeof(searchKey{}), 104, 0},
		{"inoLookupArgs", unsafe.Sizeof(inoLookupArgs{}), 4096, iocInoLookup},
		{"receivedArgs", unsafe.Sizeof(receivedArgs{}), 200, iocSetReceived},
		{"sendArgs", unsafe.Sizeof(sendArgs{}), 72, iocSend},
		{"subvolInfo", unsafe.Sizeof(subvolInfo{}), 504, iocGetSubvolInfo},
		{"encodedArgs", unsafe.Sizeof(encodedArgs{}), 128, iocEncodedWrite},
		{"fsInfoArgs", unsafe.Sizeof(fsInfoArgs{}), 1024, iocFSInfo},
		{"subvolWait", unsafe.Sizeof(subvolWait{}), 16, iocSubvolSyncWait},
		{"rootRefs", unsafe.Sizeof(rootRefs{}), 4096, iocGetSubvolRootRef},
		{"lookupUser", unsafe.Sizeof(lookupUser{}), 4096, iocInoLookupUser},
		{"timespec", unsafe.Sizeof(timespec{}), 16, 0},
	} {
		if c.size != c.want {
			t.Errorf("%s takes %d bytes, want %d", c.name, c.size, c.want)
		}
		if c.number != 0 && uintptr(c.number&encodedSize)>>16 != c.size {
			t.Errorf("%s takes %d bytes, but its request %#x says otherwise", c.name, c.size, c.number)
		}
	}
}

func TestOffsets(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"sendArgs.clones", unsafe.Offsetof(sendArgs{}.clones), 16},
		{"sendArgs.parent", unsafe.Offsetof(sendArgs{}.parent), 24},
		{"sendArgs.flags", unsafe.Offsetof(sendArgs{}.flags), 32},
		{"sendArgs.version", unsafe.Offsetof(sendArgs{}.version), 40},
		{"receivedArgs.stransid", unsafe.Offsetof(receivedArgs{}.stransid), 16},
		{"receivedArgs.stime", unsafe.Offsetof(receivedArgs{}.stime), 32},
		{"receivedArgs.rtime", unsafe.Offsetof(receivedArgs{}.rtime), 48},
		{"receivedArgs.flags", unsafe.Offsetof(receivedArgs{}.flags), 64},
		{"subvolInfo.parentID", unsafe.Offsetof(subvolInfo{}.parentID), 264},
		{"subvolInfo.generation", unsafe.Offsetof(subvolInfo{}.generation), 280},
		{"subvolInfo.flags", unsafe.Offsetof(subvolInfo{}.flags), 288},
		{"subvolInfo.uuid", unsafe.Offsetof(subvolInfo{}.uuid), 296},
		{"subvolInfo.ctransid", unsafe.Offsetof(subvolInfo{}.ctransid), 344},
		{"subvolInfo.ctime", unsafe.Offsetof(subvolInfo{}.ctime), 376},
		{"subvolInfo.rtime", unsafe.Offsetof(subvolInfo{}.rtime), 424},
		{"searchKey.minTransid", unsafe.Offsetof(searchKey{}.minTransid), 40},
		{"searchKey.minType", unsafe.Offsetof(searchKey{}.minType), 56},
		{"searchKey.items", unsafe.Offsetof(searchKey{}.items), 64},
		{"encodedArgs.offset", unsafe.Offsetof(encodedArgs{}.offset), 16},
		{"encodedArgs.compression", unsafe.Offsetof(encodedArgs{}.compression), 56},
		{"volArgsV2.flags", unsafe.Offsetof(volArgsV2{}.flags), 16},
		{"volArgsV2.name", unsafe.Offsetof(volArgsV2{}.name), 56},
		{"rootRefs.n", unsafe.Offsetof(rootRefs{}.n), 4088},
		{"lookupUser.path", unsafe.Offsetof(lookupUser{}.path), 272},
		{"fsInfoArgs.fsid", unsafe.Offsetof(fsInfoArgs{}.fsid), 16},
		{"fsInfoArgs.flags", unsafe.Offsetof(fsInfoArgs{}.flags), 48},
		{"fsInfoArgs.generation", unsafe.Offsetof(fsInfoArgs{}.generation), 56},
	} {
		if c.got != c.want {
			t.Errorf("%s is at %d, want %d", c.name, c.got, c.want)
		}
	}
}
