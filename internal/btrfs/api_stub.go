package btrfs

import (
	"context"
	"errors"
	"io"
	"os"
)

var errStub = errors.New("not built yet")

// Filesystem is stubbed.
type Filesystem struct{ dir *os.File }

// Mount is one place where (a part of) the file system is mounted and visible.
type Mount struct {
	Point    string // absolute path of the mount point
	Root     string // what is mounted there: path from the top level, no leading slash
	ReadOnly bool
}

func Open(path string) (*Filesystem, error)                      { return nil, errStub }
func (fs *Filesystem) Close() error                              { return errStub }
func (fs *Filesystem) Dir() *os.File                             { return nil }
func (fs *Filesystem) UUID() UUID                                { return UUID{} }
func (fs *Filesystem) Subvolumes() ([]Subvolume, error)          { return nil, errStub }
func (fs *Filesystem) ByUUID(u UUID) ([]uint64, error)           { return nil, errStub }
func (fs *Filesystem) ByReceivedUUID(u UUID) ([]uint64, error)   { return nil, errStub }
func (fs *Filesystem) OpenSubvolume(id uint64) (*os.File, error) { return nil, errStub }
func (fs *Filesystem) Mounts() ([]Mount, error)                  { return nil, errStub }

// LinuxPaths returns, by subvolume number, every path at which it can be seen; best (shortest mount) first.
func (fs *Filesystem) LinuxPaths(s []Subvolume, m []Mount) map[uint64][]string { return nil }
func (fs *Filesystem) Quota() (map[uint64]Usage, bool, error)                  { return nil, false, errStub }

func Info(subvol *os.File) (Subvolume, error)                                     { return Subvolume{}, errStub }
func IsSubvolume(f *os.File) (bool, error)                                        { return false, errStub }
func Locate(dir *os.File) (uint64, string, error)                                 { return 0, "", errStub }
func CreateSubvolume(dir *os.File, name string) error                             { return errStub }
func CreateSnapshot(dir *os.File, name string, src *os.File, readOnly bool) error { return errStub }
func DeleteSubvolume(dir *os.File, name string) error                             { return errStub }
func ReadOnly(f *os.File) (bool, error)                                           { return false, errStub }
func SetReadOnly(f *os.File, ro bool) error                                       { return errStub }
func SetReceived(f *os.File, uuid UUID, stransid uint64) (rtransid uint64, err error) {
	return 0, errStub
}
func Sync(f *os.File) error              { return errStub }
func Untouched(f *os.File) (bool, error) { return false, errStub }

// EncodedExtent says what the data of an encoded write is.
type EncodedExtent struct {
	Offset                                 int64
	FileLen, UnencodedLen, UnencodedOffset uint64
	Compression, Encryption                uint32
}

// EncodedWrite takes a raw fd because the receiver keeps raw ones.
func EncodedWrite(fd int, data []byte, e EncodedExtent) error { return errStub }

type SendOptions struct {
	Parent                               uint64
	CloneSources                         []uint64
	Protocol                             uint32
	Compressed, MetadataOnly, NoPrefetch bool
}

func Send(ctx context.Context, subvol *os.File, o SendOptions) (io.ReadCloser, error) {
	return nil, errStub
}

// Estimate of the length of a send stream, in bytes.
type Estimate struct {
	Plain      int64 // with data as it reads
	Compressed int64 // protocol 2 with compressed extents as they are stored
	Inodes     int64 // inodes that are new or changed
}

func EstimateSend(subvol, parent *os.File) (Estimate, error) { return Estimate{}, errStub }

type PermissionError struct {
	Op, Capability string
	Err            error
}

func (e *PermissionError) Error() string { return e.Op + ": needs " + e.Capability }
func (e *PermissionError) Unwrap() error { return e.Err }
