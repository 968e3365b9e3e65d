package endurance

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/s3test"
)

// forTools makes a scene whose snapshots `btrfs receive` gets right.
func forTools(t *testing.T) *scene {
	t.Helper()
	s := empty(t)
	s.family("a", 3, 400_000, btrfstest.Without(btrfstest.BigFiles, btrfstest.ManyLinks, btrfstest.RootInheritance, btrfstest.RootChanges))
	return s
}

// receives has Debian's own tools restore every object of the archive, chain
// by chain, with a pipeline that gets an object's file and a directory.
func (d *depot) receives(s *scene, script string, more ...string) {
	d.t.Helper()
	receiver := btrfstest.New(d.t, btrfstest.Size(1<<30))
	done := map[string]bool{"None": true}
	for all := d.objects(); len(done) <= len(all); {
		before := len(done)
		for _, o := range all {
			if done[o.to] || !done[o.from] {
				continue
			}
			pipe(d.t, script, append([]string{d.save(o.key), receiver.Dir}, more...)...)
			done[o.to] = true
			show := receiver.Show(receiver.Path(o.path))
			if show["Received UUID"] != s.wanted[o.path].uuid {
				d.t.Errorf("%s has become %v", o, show)
			}
			want := btrfstest.Digest(d.t, s.src.Path("snaps/"+o.path), btrfstest.WithoutRootTime())
			if btrfstest.Digest(d.t, receiver.Path(o.path), btrfstest.WithoutRootTime()) != want {
				d.t.Errorf("%s differs:\n%s", o, difference(d.t, s.src.Path("snaps/"+o.path), receiver.Path(o.path)))
			}
		}
		if len(done) == before {
			d.t.Fatalf("these are no chains: %v", all)
		}
	}
	if len(done)-1 != len(s.wanted) {
		d.t.Errorf("%d snapshots instead of %d", len(done)-1, len(s.wanted))
	}
}

// TestArchiveOpenedByAge restores with age, zstd and btrfs, as Debian has them,
// a full stream and increments.
func TestArchiveOpenedByAge(t *testing.T) {
	everywhere(t, func(t *testing.T, d *depot) {
		btrfstest.Program(t, "zstd")
		key := newAgeKey(t)
		d.sealed(key)
		s := forTools(t)
		s.store(d).fine()
		d.receives(s, `age -d -i "$3" "$1" | zstd -d | btrfs receive "$2"`, key.file)
	})
}

// TestArchiveOpenedByOthers does so with what is plain, only compressed, and
// only encrypted.
func TestArchiveOpenedByOthers(t *testing.T) {
	t.Parallel()
	btrfstest.Program(t, "zstd")
	key := newAgeKey(t)
	s := forTools(t)
	for _, form := range []struct {
		name, script string
		flags        []string
	}{
		{"plain", `btrfs receive "$2" < "$1"`, nil},
		{"zst", `zstd -d < "$1" | btrfs receive "$2"`, []string{"--compress=zstd:7"}},
		{"age", `age -d -i "$3" "$1" | btrfs receive "$2"`, []string{"--encrypt=age:" + key.recipient}},
	} {
		t.Run(form.name, func(t *testing.T) {
			d := tempDepot(t)
			here := *s
			here.t = t
			here.store(d, form.flags...).fine()
			d.receives(&here, form.script, key.file)
		})
	}
}

// TestArchiveOpenedByGPG does so with gpg and the user's keyring; the program
// restores it as well.
func TestArchiveOpenedByGPG(t *testing.T) {
	t.Parallel()
	gpg := btrfstest.Program(t, "gpg")
	home, err := os.MkdirTemp("", "gpg-") // short, for the socket of the agent
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = tool("gpgconf", "--homedir", home, "--kill", "gpg-agent")
		_ = os.RemoveAll(home)
	})
	if err := tool(gpg, "--homedir", home, "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "tester@example.invalid", "default", "default", "never"); err != nil {
		t.Fatal(err)
	}
	d := s3Depot(t, s3test.Start(t))
	d.env = append(d.env, "GNUPGHOME="+home)
	d.write = append(d.write, "--compress=zstd", "--encrypt=gpg:tester@example.invalid")
	s := forTools(t)
	s.store(d).fine()
	for _, o := range d.sound(s) {
		if o.form != ".zst.gpg" {
			t.Errorf("%s is not sealed by gpg", o)
		}
	}
	d.receives(s, `gpg --homedir "$3" --batch --quiet -d "$1" | zstd -d | btrfs receive "$2"`, home)
	s.restore(d).fine()
	s.complete()
}

// TestArchiveToSSHKey seals for a key of ssh, as age knows them.
func TestArchiveToSSHKey(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "id")
	if err := tool(btrfstest.Program(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", file); err != nil {
		t.Fatal(err)
	}
	d := tempDepot(t)
	d.write = append(d.write, "--compress=zstd", "--encrypt=age:"+file+".pub")
	d.read = []string{"--identity=" + file}
	s := forTools(t)
	s.store(d).fine()
	d.receives(s, `age -d -i "$3" "$1" | zstd -d | btrfs receive "$2"`, file)
	s.restore(d).fine()
	s.complete()
}

// TestArchiveProtocol: what is stored can be received by every btrfs-progs since
// 2012, and begins with what its key says, also where the source's snapshots were
// received themselves and have data in holes and compressed extents.
func TestArchiveProtocol(t *testing.T) {
	t.Parallel()
	s := newScene(t, btrfstest.New(t, btrfstest.Size(1<<30), btrfstest.MountOptions("compress=zstd")), btrfstest.New(t, btrfstest.Size(1<<30)))
	s.family("a", 1, 0)
	live := s.src.Path("live-a")
	sparse, err := os.Create(filepath.Join(live, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sparse.Truncate(10 << 20); err != nil {
		t.Fatal(err)
	}
	_, _ = sparse.WriteAt(make([]byte, 1<<20), 5<<20)
	if err := sparse.Close(); err != nil {
		t.Fatal(err)
	}
	s.snapshot(live, "a1")
	s.sync().fine() // the destination has received ones
	d := tempDepot(t)
	s.storeFrom(s.to(), d).fine()
	for _, o := range d.sound(s) {
		data := d.bucket.get(o.key)
		if want := "btrfs-stream\x00\x01\x00\x00\x00"; string(data[:17]) != want {
			t.Errorf("%s begins with %q", o, data[:17])
		}
		dump, err := s.dst.Dump(openFile(t, d.save(o.key)))
		if err != nil {
			t.Fatalf("%s: %v", o, err)
		}
		first := regexp.MustCompile(`(subvol|snapshot) +\S+ +uuid=(\S+) transid=\d+(?: parent_uuid=(\S+))?`).FindStringSubmatch(dump)
		if first == nil || first[2] != o.to || (first[3] != o.from && o.from != "None") || (first[1] == "subvol") != (o.from == "None") {
			t.Errorf("%s begins with %q", o, first)
		}
	}
}

func openFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// noise returns bytes that nothing compresses.
func noise(seed byte, size int) []byte {
	block := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed, 0xa5}).Read(block)
	return block
}
