package stream

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

var update = flag.Bool("update", false, "make testdata anew with this machine's kernel (needs root)")

// corpusMounts are the file systems that the corpus is made on.
var corpusMounts = map[string]string{"plain": "compress=no", "zlib": "compress-force=zlib", "lzo": "compress-force=lzo", "zstd": "compress-force=zstd"}

// corpusSends are the streams that are made on each: name, then arguments.
// FIRST stands for the first snapshot.
var corpusSends = map[string][]string{
	"plain": {
		"v1-full", "v1-incremental -p FIRST", "v1-metadata --no-data", "v1-incremental-metadata --no-data -p FIRST",
		"v2-full --proto 2", "v2-incremental --proto 2 -p FIRST", "v2-metadata --proto 2 --no-data",
	},
	"zlib": {"v2-zlib --proto 2 --compressed-data"},
	"lzo":  {"v2-lzo --proto 2 --compressed-data"},
	"zstd": {"v2-zstd --proto 2 --compressed-data", "v2-zstd-incremental --proto 2 --compressed-data -p FIRST"},
}

// The first state of the corpus's snapshot, and the change to the second.
const (
	corpusFirst = `
		seq 1 10000 | head -c 50000 >big; head -c 3000 /dev/urandom >random; seq 1 200 >small; : >empty
		cp --reflink=always big reflink; truncate -s 1M sparse; printf x | dd of=sparse bs=1 seek=500000 conv=notrunc status=none
		fallocate -l 20000 prealloc; mkdir -p dir/deep/deeper; ln small dir/link; ln -s "to nowhere \\ " symlink
		mkfifo fifo; mknod null c 1 3; mknod disk b 259 70000; echo x >"$(printf 'odd \n \\ \377\033name')"; mkdir swap1 swap2
		setfattr -n user.text -v 'a text' small; setfattr -n user.empty -v '' small; setfattr -n user.bytes -v 0x00ff0a00 dir
		setfacl -m u:1234:rwx random; setcap cap_net_raw+ep random; setfattr -n user.root -v here .
		chmod 4711 random; chown 12:34 dir; touch -d '1960-01-01 00:00:00.123456789 UTC' small; touch -d '2300-01-01 UTC' empty`
	corpusSecond = `
		mv swap1 swap; mv swap2 swap1; mv swap swap2; rm fifo empty; mv dir/deep dir2; rmdir dir2/deeper; mv symlink null dir2
		setfattr -x user.text small; setfattr -n user.bytes -v 0x01 dir; truncate -s 1000 random; chmod 600 .; chown 5:6 big
		fallocate -p -o 4096 -l 8192 big; cp --reflink=always reflink again; echo more >>small; chattr +C dir2; mkdir fifo
		echo y | dd of=sparse bs=1 seek=700000 conv=notrunc status=none; ln big dir/big; rm dir/link`
)

// TestCorpus makes, with -update, the streams in testdata: small ones of a real
// kernel, on which the tests and fuzz targets of this package run anywhere.
// Without, it holds that each is a whole stream of its name.
func TestCorpus(t *testing.T) {
	if *update {
		for mount, options := range corpusMounts {
			fs := btrfstest.New(t, btrfstest.MountOptions(options))
			live := fs.Subvolume("live")
			for i, script := range []string{corpusFirst, corpusSecond} {
				sh := exec.Command("sh", "-euc", script)
				sh.Dir = live
				if out, err := sh.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				fs.Snapshot("live", fmt.Sprint("s", i+1), true)
			}
			for _, send := range corpusSends[mount] {
				send = strings.ReplaceAll(send, "FIRST", fs.Path("s1"))
				args, snap := strings.Fields(send), "s1"
				if strings.Contains(send, " -p ") {
					snap = "s2"
				}
				name := filepath.Join("testdata", args[0]+".stream")
				if err := os.WriteFile(name, fs.Send(snap, args[1:]...), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for name, data := range corpus(t) {
		stats, id, err := Verify(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if stats.Bytes != int64(len(data)) || id.HasParent != strings.Contains(name, "incremental") {
			t.Errorf("%s: %+v %+v", name, stats, id)
		}
		var again bytes.Buffer
		if _, err := copyStream(t, &again, data); err != nil || !bytes.Equal(again.Bytes(), data) {
			t.Errorf("%s: written again it differs: %v", name, err)
		}
		// A stream with its data measures itself, one without the other one.
		whole := data
		if of, ok := strings.CutSuffix(name, "metadata"); ok {
			if of = strings.TrimSuffix(of, "-"); !strings.HasSuffix(of, "incremental") {
				of += "-full"
			}
			whole = corpus(t)[of]
		}
		if n, err := MeasureMetadata(NewReader(bytes.NewReader(data))); err != nil || n != int64(len(whole)) {
			t.Errorf("%s: measured %d bytes instead of %d: %v", name, n, len(whole), err)
		}
	}
}

// corpus returns the streams in testdata by their names.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.stream")
	if err != nil || len(files) != 11 {
		t.Fatalf("testdata has %d streams: %v", len(files), err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".stream")] = data
	}
	return all
}
