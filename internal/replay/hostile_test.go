package replay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/stream"
)

// Every stream here tries to reach out of its subvolume, or to make the
// receiver wait. Those in refused have to fail, those in harmless may do what
// they do inside.
func TestHostileStreams(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	outside := fs.Path("outside")
	mkdir(t, outside+"/dir")
	write(t, outside+"/file", "precious")
	write(t, outside+"/dir/file", "precious")
	parent := fs.Subvolume("parent")
	if err := os.Symlink(outside, parent+"/link"); err != nil {
		t.Fatal(err)
	}
	write(t, parent+"/real", strings.Repeat("x", 8192))
	if err := unix.Mkfifo(parent+"/fifo", 0o666); err != nil {
		t.Fatal(err)
	}
	parent = fs.Snapshot("parent", "parent.ro", true)
	from := infoOf(t, parent)
	bind := fs.Bind("outside") // the same from another mount
	before := btrfstest.Digest(t, outside)

	clone := func(path, source string, uuid stream.UUID) stream.Command {
		return stream.Command{
			Kind: stream.Clone, Path: []byte(path), ClonePath: []byte(source), CloneUUID: uuid,
			CloneTransid: from.Ctransid, CloneLen: 4096,
		}
	}
	refused := map[string]func(f *forge){
		"write to a symlink": func(f *forge) { f.symlink("l", outside+"/file").write("l", "evil") },
		"truncate a symlink": func(f *forge) {
			f.symlink("l", outside+"/file").add(stream.Command{Kind: stream.Truncate, Path: []byte("l")})
		},
		"chmod a symlink":           func(f *forge) { f.symlink("l", outside+"/file").chmod("l", 0o777) },
		"user xattr of a symlink":   func(f *forge) { f.symlink("l", outside+"/file").xattr("l", "user.x", "y") },
		"file below a symlink":      func(f *forge) { f.symlink("l", outside).file("l/new").write("l/new", "evil") },
		"directory below a symlink": func(f *forge) { f.symlink("l", outside).mkdir("l/new").chmod("l/new", 0o777) },
		"rename to below a symlink": func(f *forge) { f.symlink("l", outside).file("x").rename("x", "l/new") },
		"move to below a symlink":   func(f *forge) { f.symlink("l", outside).file("x").chmod("x", 0o600).rename("x", "l/new") },
		"move from below a symlink": func(f *forge) { f.symlink("l", outside).rename("l/file", "new") },
		"unlink below a symlink": func(f *forge) {
			f.symlink("l", outside).add(stream.Command{Kind: stream.Unlink, Path: []byte("l/file")})
		},
		"rmdir below a symlink": func(f *forge) { f.symlink("l", outside).add(stream.Command{Kind: stream.RmDir, Path: []byte("l/dir")}) },
		"xattr below a symlink": func(f *forge) { f.symlink("l", outside).xattr("l/file", "user.x", "y") },
		"chown below a symlink": func(f *forge) {
			f.symlink("l", outside).add(stream.Command{Kind: stream.Chown, Path: []byte("l/file"), UID: 5})
		},
		"times below a symlink": func(f *forge) {
			f.symlink("l", outside).add(stream.Command{Kind: stream.Utimes, Path: []byte("l/file")})
		},
		"link from below a symlink": func(f *forge) {
			f.symlink("l", outside).add(stream.Command{Kind: stream.Link, Path: []byte("x"), PathLink: []byte("l/file")})
		},
		"link to below a symlink": func(f *forge) {
			f.symlink("l", outside).file("x").add(stream.Command{Kind: stream.Link, Path: []byte("l/x"), PathLink: []byte("x")})
		},
		"relative symlink upwards": func(f *forge) { f.symlink("l", "../../outside").file("l/new") },
		"symlink to within":        func(f *forge) { f.mkdir("d").mkdir("d/sub").symlink("l", "d").file("l/sub/new") },
		"symlink to itself":        func(f *forge) { f.symlink("l", "l").file("l/new") },
		"symlink through proc":     func(f *forge) { f.symlink("l", "/proc/self/root").file("l" + bind + "/new") },
		"write through a link to one": func(f *forge) {
			f.symlink("l", outside+"/file").add(stream.Command{Kind: stream.Link, Path: []byte("x"), PathLink: []byte("l")}).write("x", "evil")
		},
		"clone from a symlink":        func(f *forge) { f.symlink("l", outside+"/file").file("x").add(clone("x", "l", forgedUUID)) },
		"clone from below a symlink":  func(f *forge) { f.symlink("l", outside).file("x").add(clone("x", "l/file", forgedUUID)) },
		"clone from elsewhere":        func(f *forge) { f.file("x").add(clone("x", "link/file", stream.UUID(from.UUID))) },
		"clone from a fifo elsewhere": func(f *forge) { f.file("x").add(clone("x", "fifo", stream.UUID(from.UUID))) },
		"write to a fifo":             func(f *forge) { f.add(stream.Command{Kind: stream.MkFifo, Path: []byte("p")}).write("p", "x") },
		"clone from a fifo": func(f *forge) {
			f.add(stream.Command{Kind: stream.MkFifo, Path: []byte("p")}).file("x").add(clone("x", "p", forgedUUID))
		},
		"write to a socket": func(f *forge) { f.add(stream.Command{Kind: stream.MkSock, Path: []byte("p")}).write("p", "x") },
		"write to a device": func(f *forge) {
			f.add(stream.Command{Kind: stream.MkNod, Path: []byte("p"), Mode: unix.S_IFCHR | 0o600, Rdev: 0x103}).write("p", "x")
		},
		"allocate in a device": func(f *forge) {
			f.add(stream.Command{Kind: stream.MkNod, Path: []byte("p"), Mode: unix.S_IFBLK | 0o600, Rdev: 0x700}).
				add(stream.Command{Kind: stream.Fallocate, Path: []byte("p"), Size: 4096})
		},
		"write to a directory": func(f *forge) { f.mkdir("d").write("d", "x") },
		"device of no type": func(f *forge) {
			f.add(stream.Command{Kind: stream.MkNod, Path: []byte("p"), Mode: unix.S_IFREG | 0o600})
		},
		"device number too big": func(f *forge) {
			f.add(stream.Command{Kind: stream.MkNod, Path: []byte("p"), Mode: unix.S_IFCHR, Rdev: 1 << 32})
		},
		"renamed directory, link in its place": func(f *forge) {
			f.mkdir("a").mkdir("a/b").file("a/b/f").rename("a", "c").symlink("a", outside).file("a/dir/new")
		},
		"renamed directory, old path": func(f *forge) {
			f.mkdir("a").mkdir("a/b").file("a/b/f").rename("a", "c").file("a/b/g").write("a/b/g", "x")
		},
		"removed directory, link in its place": func(f *forge) {
			f.mkdir("a").mkdir("a/dir").file("a/dir/f").add(stream.Command{Kind: stream.Unlink, Path: []byte("a/dir/f")}).
				add(stream.Command{Kind: stream.RmDir, Path: []byte("a/dir")}).add(stream.Command{Kind: stream.RmDir, Path: []byte("a")}).
				symlink("a", outside).file("a/dir/new")
		},
		"open file replaced by a link": func(f *forge) {
			f.file("x").write("x", "1").symlink("l", outside+"/file").chmod("", 0o755).rename("l", "x").write("x", "evil")
		},
		"open file moved, link in its place": func(f *forge) {
			f.mkdir("d").file("d/x").write("d/x", "1").rename("d", "e").mkdir("d").symlink("d/x", outside+"/file").write("d/x", "evil")
		},
		"times that mean now": func(f *forge) {
			f.file("x").add(stream.Command{Kind: stream.Utimes, Path: []byte("x"), Mtime: stream.Time{Nsec: unix.UTIME_NOW}})
		},
		"owner that means nobody": func(f *forge) {
			f.file("x").add(stream.Command{Kind: stream.Chown, Path: []byte("x"), UID: 0xffffffff})
		},
		"clone of nothing": func(f *forge) {
			c := clone("x", "real", stream.UUID(from.UUID))
			c.CloneLen = 0
			f.file("x").add(c)
		},
		"clone from nowhere": func(f *forge) { f.file("x").add(clone("x", "real", stream.UUID{1})) },
		"a seal": func(f *forge) {
			if f.version < 3 {
				f.add(stream.Command{Kind: stream.Unlink, Path: []byte("x")})
				return
			}
			f.file("x").add(stream.Command{Kind: stream.EnableVerity, Path: []byte("x"), VerityAlgorithm: 1, VerityBlockSize: 4096})
		},
		"data left out": func(f *forge) { f.file("x").add(stream.Command{Kind: stream.UpdateExtent, Path: []byte("x"), Size: 1}) },
		"an unknown allocation": func(f *forge) {
			f.file("x").add(stream.Command{Kind: stream.Fallocate, Path: []byte("x"), FallocateMode: 8, Size: 4096})
		},
		"compressed nonsense": func(f *forge) {
			f.file("x").add(stream.Command{Kind: stream.EncodedWrite, Path: []byte("x"), UnencodedFileLen: 100, UnencodedLen: 100, Compression: 9, Data: []byte("xxxx")})
		},
		"encrypted": func(f *forge) {
			f.file("x").add(stream.Command{Kind: stream.EncodedWrite, Path: []byte("x"), UnencodedFileLen: 100, UnencodedLen: 100, Encryption: 1, Compression: 2, Data: []byte("xxxx")})
		},
		"something twice":   func(f *forge) { f.file("x").file("x") },
		"rmdir of what has": func(f *forge) { f.mkdir("d").file("d/x").add(stream.Command{Kind: stream.RmDir, Path: []byte("d")}) },
	}
	for name, make := range refused {
		t.Run(name, func(t *testing.T) {
			for _, version := range []uint32{3, 2, 1} {
				f := newForge(t, version)
				if version == 1 && needsTwo(f, make) {
					continue
				}
				f = newForge(t, version)
				make(f)
				b.t = t
				err := b.refuse("x", f.end())
				t.Log(err)
			}
		})
	}

	harmless := map[string]func(f *forge){
		"chown a symlink": func(f *forge) {
			f.symlink("l", outside+"/file").add(stream.Command{Kind: stream.Chown, Path: []byte("l"), UID: 7, GID: 7})
		},
		"times of a symlink": func(f *forge) {
			f.symlink("l", outside+"/file").add(stream.Command{Kind: stream.Utimes, Path: []byte("l"), Mtime: stream.Time{Sec: 1}})
		},
		"trusted xattr of a symlink": func(f *forge) {
			f.symlink("l", outside+"/file").xattr("l", "trusted.x", "y").
				add(stream.Command{Kind: stream.RemoveXattr, Path: []byte("l"), XattrName: []byte("trusted.x")})
		},
		"remove no xattr": func(f *forge) {
			f.symlink("l", outside+"/file").add(stream.Command{Kind: stream.RemoveXattr, Path: []byte("l"), XattrName: []byte("trusted.x")})
		},
		"unlink a symlink": func(f *forge) {
			f.symlink("l", outside+"/file").add(stream.Command{Kind: stream.Unlink, Path: []byte("l")})
		},
		"metadata of what cannot be opened": func(f *forge) {
			for name, kind := range map[string]stream.Kind{"p": stream.MkFifo, "s": stream.MkSock, "n": stream.MkNod} {
				f.add(stream.Command{Kind: kind, Path: []byte(name), Mode: unix.S_IFCHR | 0o600, Rdev: 0x103}).
					chmod(name, 0o640).xattr(name, "trusted.x", "y").
					add(stream.Command{Kind: stream.Chown, Path: []byte(name), UID: 7, GID: 7}).
					add(stream.Command{Kind: stream.Utimes, Path: []byte(name), Mtime: stream.Time{Sec: 1}})
			}
		},
		"clone of the file at hand into the next": func(f *forge) {
			f.file("a").write("a", strings.Repeat("a", 4096)).file("b").write("b", "")
			c := clone("b", "a", forgedUUID)
			f.write("a", strings.Repeat("b", 4096)).add(c)
		},
	}
	for name, make := range harmless {
		t.Run(name, func(t *testing.T) {
			f := newForge(t, 2)
			make(f)
			b.t = t
			b.must("x", f.end())
			if strings.HasPrefix(name, "clone") {
				got, err := os.ReadFile(b.path("x/b"))
				if err != nil || string(got) != strings.Repeat("b", 4096) {
					t.Errorf("cloned %q..., %v", got[:min(len(got), 10)], err)
				}
			}
			if strings.HasPrefix(name, "metadata") {
				for _, n := range []string{"p", "s", "n"} {
					var st unix.Stat_t
					value := [8]byte{}
					if err := unix.Lstat(b.path("x/"+n), &st); err != nil || st.Mode&0o7777 != 0o640 || st.Uid != 7 || st.Mtim.Sec != 1 {
						t.Errorf("%s: %+v, %v", n, st, err)
					}
					if got, err := unix.Lgetxattr(b.path("x/"+n), "trusted.x", value[:]); got != 1 || value[0] != 'y' {
						t.Errorf("%s: xattr %q, %v", n, value[:max(got, 0)], err)
					}
				}
			}
			if err := btrfs.DeleteSubvolume(b.dir, "x"); err != nil {
				t.Fatal(err)
			}
		})
	}
	if after := btrfstest.Digest(t, outside); after != before {
		t.Error("something outside of the subvolume has changed")
	}
}

// needsTwo reports whether a stream has commands that version 1 does not know.
func needsTwo(f *forge, make func(*forge)) bool {
	probe := newForge(f.t, 2)
	make(probe)
	r := stream.NewReader(bytes.NewReader(probe.end()))
	for {
		c, err := r.Next()
		if err != nil {
			return false
		}
		if c.Kind > stream.UpdateExtent {
			return true
		}
	}
}

// Somebody else may put a subvolume or a mount into what is being received.
// The stream does not get into it.
func TestForeignGround(t *testing.T) {
	fs := btrfstest.New(t)
	b := newBench(t, fs, "in")
	for name, place := range map[string]func(dir string){
		"subvolume": func(dir string) { fs.Subvolume(dir) },
		"mount": func(dir string) {
			mkdir(t, dir)
			if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
		},
		"bind mount": func(dir string) {
			mkdir(t, dir)
			mkdir(t, fs.Path("bound"))
			if err := unix.Mount(fs.Path("bound"), dir, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, act := range []func(*forge){
				func(f *forge) { f.file("n/x").write("n/x", "evil") },
				func(f *forge) { f.file("x").rename("x", "n/x") },
				func(f *forge) { f.xattr("n", "trusted.x", "y") },
				func(f *forge) { f.chmod("n", 0o777) },
				func(f *forge) { f.add(stream.Command{Kind: stream.Chown, Path: []byte("n"), UID: 7, GID: 7}) },
				func(f *forge) {
					f.add(stream.Command{Kind: stream.Utimes, Path: []byte("n"), Mtime: stream.Time{Sec: 1}})
				},
				func(f *forge) { f.add(stream.Command{Kind: stream.RmDir, Path: []byte("n")}) },
				func(f *forge) { f.rename("n", "m") },
				func(f *forge) { f.mkdir("m").chmod("m", 0o700).rename("m", "n") },
			} {
				begin := func() *forge {
					return newForge(t, 1).file("first").write("first", "1").chmod("first", 0o600)
				}
				start := len(begin().cut())
				f := begin()
				act(f)
				all := f.end()

				in, out := io.Pipe()
				r := b.receiver("x")
				done := make(chan error, 1)
				go func() { done <- r.Receive(context.Background(), stream.NewReader(in)) }()
				if _, err := out.Write(all[:start]); err != nil {
					t.Fatal(err)
				}
				waitFor(t, b.path("x.part/first"))
				nested := b.path("x.part/n")
				place(nested)
				before := btrfstest.Digest(t, nested)
				if _, err := out.Write(all[start:]); err != nil {
					t.Fatal(err)
				}
				out.Close()
				err := <-done
				if !errors.Is(err, ErrOutside) {
					t.Errorf("the receive ended with: %v", err)
				}
				if btrfstest.Digest(t, nested) != before {
					t.Errorf("it was changed; the receive ended with %v", err)
				}
				if name == "subvolume" {
					if err := r.Abandon(); err == nil || !strings.Contains(err.Error(), "other subvolume") {
						t.Errorf("abandoning: %v", err)
					}
					if err := b.refuse2("x"); err == nil || !strings.Contains(err.Error(), "other subvolume") {
						t.Errorf("receiving again: %v", err)
					}
					fs.Delete(nested)
					fs.Delete(b.path("x.part"))
				} else {
					if err := unix.Unmount(nested, 0); err != nil {
						t.Fatal(err)
					}
					if err := r.Abandon(); err != nil {
						t.Error(err)
					}
				}
				b.absent("x")
				b.absent("x.part")
			}
		})
	}
}

// refuse2 is refuse where something stays behind.
func (b *bench) refuse2(name string) error {
	r := b.receiver(name)
	return r.Receive(context.Background(), stream.NewReader(bytes.NewReader(newForge(b.t, 1).end())))
}

func waitFor(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Lstat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not appear", path)
		}
	}
}
