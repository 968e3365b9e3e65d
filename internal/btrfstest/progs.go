package btrfstest

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Subvolume makes a subvolume (relative to Dir, or absolute) and returns its
// path.
func (fs *FS) Subvolume(name string) string {
	fs.t.Helper()
	path := fs.Path(name)
	run(fs.t, nil, "btrfs", "-q", "subvolume", "create", path)
	return path
}

// Snapshot makes a snapshot of the subvolume src as dst and returns its path.
func (fs *FS) Snapshot(src, dst string, readOnly bool) string {
	fs.t.Helper()
	args := []string{"-q", "subvolume", "snapshot"}
	if readOnly {
		args = append(args, "-r")
	}
	path := fs.Path(dst)
	run(fs.t, nil, "btrfs", append(args, fs.Path(src), path)...)
	return path
}

// Delete deletes a subvolume.
func (fs *FS) Delete(name string) {
	fs.t.Helper()
	run(fs.t, nil, "btrfs", "-q", "subvolume", "delete", fs.Path(name))
}

// SetReadOnly sets or clears the read-only flag of a subvolume as the btrfs
// program does it: clearing it takes the received UUID away.
func (fs *FS) SetReadOnly(name string, readOnly bool) {
	fs.t.Helper()
	run(fs.t, nil, "btrfs", "property", "set", "-f", "-t", "subvol", fs.Path(name), "ro", strconv.FormatBool(readOnly))
}

// Sync writes everything to the devices.
func (fs *FS) Sync() {
	fs.t.Helper()
	run(fs.t, nil, "btrfs", "filesystem", "sync", fs.Dir)
}

// Send returns the stream that btrfs send makes of a snapshot; args stand
// before the snapshot, for instance "-p", parent, "--proto", "2".
func (fs *FS) Send(snapshot string, args ...string) []byte {
	fs.t.Helper()
	args = append([]string{"-q", "send"}, args...)
	return run(fs.t, nil, "btrfs", append(args, fs.Path(snapshot))...)
}

// SendTo is Send into a writer, for streams too big to hold.
func (fs *FS) SendTo(w io.Writer, snapshot string, args ...string) error {
	fs.t.Helper()
	args = append([]string{"-q", "send"}, args...)
	return pipe(fs.t, "", nil, w, "btrfs", append(args, fs.Path(snapshot))...)
}

// Receive lets btrfs receive carry out a stream in a directory (relative to Dir,
// or absolute; "" is Dir itself). The error holds what the program said.
func (fs *FS) Receive(dir string, stream io.Reader, args ...string) error {
	fs.t.Helper()
	args = append([]string{"-q", "receive"}, args...)
	_, err := output(fs.t, stream, "btrfs", append(args, fs.Path(dir))...)
	return err
}

// MustReceive is Receive for streams that must succeed; it returns the path of
// the subvolume called name in dir.
func (fs *FS) MustReceive(dir, name string, stream []byte, args ...string) string {
	fs.t.Helper()
	if err := fs.Receive(dir, bytes.NewReader(stream), args...); err != nil {
		fs.t.Fatal(err)
	}
	path := filepath.Join(fs.Path(dir), name)
	if _, err := os.Stat(path); err != nil {
		fs.t.Fatal(err)
	}
	return path
}

// Dump returns what btrfs receive --dump says about a stream.
func (fs *FS) Dump(stream io.Reader) (string, error) {
	fs.t.Helper()
	out, err := output(fs.t, stream, "btrfs", "receive", "--dump")
	return string(out), err
}

// Show returns the fields of btrfs subvolume show by their names there, such as
// "UUID", "Received UUID", "Subvolume ID", "Send transid", "Flags". A value the
// program prints as "-" is "".
func (fs *FS) Show(name string) map[string]string {
	fs.t.Helper()
	fields := map[string]string{}
	for line := range strings.Lines(string(run(fs.t, nil, "btrfs", "subvolume", "show", fs.Path(name)))) {
		key, value, ok := strings.Cut(line, ":")
		if value = strings.TrimSpace(value); ok && value != "" {
			if value == "-" {
				value = ""
			}
			fields[strings.TrimSpace(key)] = value
		}
	}
	return fields
}
