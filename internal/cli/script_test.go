package cli

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/s3test"
	"github.com/buttersink/buttersink/internal/sshtest"
	"github.com/buttersink/buttersink/internal/stream"
)

func TestMain(m *testing.M) {
	run := func() { os.Exit(Main(os.Args[1:], System())) }
	testscript.Main(m, map[string]func(){
		"buttersink":   run,
		"btrfslist":    run,
		"checksumdir":  run,
		"btrfs-backup": run,
		"btrsend":      run,
	})
}

// TestScript runs testdata/script: each script shows one behaviour of the
// program, and says on top why it matters. Besides testscript's own commands
// they have those in scriptCommands, and these conditions:
//
//	[root]   the test runs as root
//	[btrfs]  a scratch btrfs can be made. Where the tests have to be complete
//	         (btrfstest.RealEnv) it is always true, so that a script fails there
//	         instead of being skipped.
//	[s3]     an S3 server can be run, likewise
//	[ssh]    an SSH server can be run, likewise
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds:                scriptCommands,
		Condition:           scriptCondition,
		Setup: func(env *testscript.Env) error {
			env.Values[benchKey{}] = &bench{
				t:       env.T().(testing.TB),
				scratch: map[string]*btrfstest.FS{},
				trees:   map[string]*btrfstest.Tree{},
			}
			env.Setenv("LC_ALL", "C")
			env.Setenv("BUTTERSINK_STATE", env.WorkDir+"/.state")
			env.Setenv(btrfstest.RealEnv, os.Getenv(btrfstest.RealEnv))
			return nil
		},
	})
}

type benchKey struct{}

// bench is what the commands of one script share.
type bench struct {
	t       testing.TB
	scratch map[string]*btrfstest.FS   // by name
	trees   map[string]*btrfstest.Tree // by absolute directory
	s3      *s3test.Server             // nil until one is asked for
	cold    *s3test.Cold               // before it, likewise
	sshd    *sshtest.Server            // likewise
	glacier *glaciertest.Server        // likewise
	logins  map[string]*sshtest.User   // by the name that ssh knows them as
}

func benchOf(ts *testscript.TestScript) *bench { return ts.Value(benchKey{}).(*bench) }

func scriptCondition(cond string) (bool, error) {
	must := os.Getenv(btrfstest.RealEnv) == "1"
	switch cond {
	case "root":
		return must || os.Geteuid() == 0, nil
	case "btrfs":
		return must || canBtrfs(), nil
	case "s3":
		return must || canS3(), nil
	case "ssh":
		return must || canSSH(), nil
	}
	return false, errors.New("unknown condition")
}

// canBtrfs asks the bench, in a test of its own, whether it would skip.
func canBtrfs() bool {
	p := &probe{}
	done := make(chan struct{})
	go func() { // Require ends its goroutine when it skips
		defer close(done)
		btrfstest.Require(p)
		p.ok = true
	}()
	<-done
	return p.ok
}

// probe is a testing.TB on which only the calls of Require may be made.
type probe struct {
	testing.TB
	ok bool
}

func (p *probe) Helper()               {}
func (p *probe) Skipf(string, ...any)  { runtime.Goexit() }
func (p *probe) Fatalf(string, ...any) { runtime.Goexit() }

var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":   cmdExits,
	"scratch": cmdScratch,
	"fill":    cmdFill,
	"mutate":  cmdMutate,
	"same":    cmdSame,
	"flip":    cmdFlip,
	"stream":  cmdStream,

	"sshd":    cmdSSHD,
	"sudoers": cmdSudoers,
	"forced":  cmdForced,
	"far":     cmdFar,

	"s3":           cmdS3,
	"s3user":       cmdS3User,
	"s3cold":       cmdS3Cold,
	"s3pass":       cmdS3Pass,
	"s3asked":      cmdS3Asked,
	"s3begin":      cmdS3Begin,
	"s3unfinished": cmdS3Unfinished,

	"glacier": cmdGlacier,
	"later":   cmdLater,
	"trouble": cmdTrouble,
	"vault":   cmdVault,
	"archive": cmdArchive,
	"keyring": cmdKeyring,
}

// exits CODE PROGRAM [ARG...] runs a program, which has to end with this very
// exit code.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// scratch NAME [MOUNT-OPTIONS] makes a btrfs that lives as long as the script,
// and sets $NAME to its mount point.
func cmdScratch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: scratch NAME [MOUNT-OPTIONS]")
	}
	b := benchOf(ts)
	if b.scratch[args[0]] != nil {
		ts.Fatalf("scratch %s is there already", args[0])
	}
	var opts []btrfstest.Option
	if len(args) == 2 {
		opts = append(opts, btrfstest.MountOptions(args[1]))
	}
	fs := btrfstest.New(b.t, opts...)
	b.scratch[args[0]] = fs
	ts.Setenv(args[0], fs.Dir)
}

// fill DIR SEED fills an empty directory with a tree that uses everything.
func cmdFill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fill DIR SEED")
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	b, dir := benchOf(ts), ts.MkAbs(args[0])
	b.trees[dir] = btrfstest.NewTree(b.t, dir, seed)
	b.trees[dir].Fill()
}

// mutate DIR changes at random what fill has made there.
func cmdMutate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mutate DIR")
	}
	tree := benchOf(ts).trees[ts.MkAbs(args[0])]
	if tree == nil {
		ts.Fatalf("%s was not filled", args[0])
	}
	tree.Mutate()
}

// [!] same DIR DIR compares two trees by everything that a stream carries.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same DIR DIR")
	}
	t := benchOf(ts).t
	diff := cmp.Diff(btrfstest.Entries(t, ts.MkAbs(args[0])), btrfstest.Entries(t, ts.MkAbs(args[1])))
	switch {
	case diff != "" && !neg:
		ts.Fatalf("the trees differ (-first +second):\n%s", diff)
	case diff == "" && neg:
		ts.Fatalf("the trees are the same")
	}
}

// flip FILE OFFSET inverts one byte of a file.
func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE OFFSET")
	}
	offset, err := strconv.Atoi(args[1])
	ts.Check(err)
	data := []byte(ts.ReadFile(args[0]))
	if offset < 0 || offset >= len(data) {
		ts.Fatalf("%s has only %d bytes", args[0], len(data))
	}
	data[offset] ^= 0xff
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o666))
}

// stream FILE [N] writes a small send stream: a full one of a snapshot
// "monday". With N it has as many more writes.
func cmdStream(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: stream FILE [N]")
	}
	more := 0
	if len(args) == 2 {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		more = n
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	w := stream.NewWriter(f, 1)
	uuid := stream.UUID{0xea, 0x7c, 0x1d, 0x34, 0xc7, 0x82, 0x58, 0x4b, 0x81, 0x44, 0x84, 0x57, 0x60, 0x16, 0x3e, 0xa1}
	commands := []*stream.Command{
		{Kind: stream.Subvol, Path: []byte("monday"), UUID: uuid, Transid: 7},
		{Kind: stream.MkDir, Path: []byte("d"), Ino: 257},
		{Kind: stream.MkFile, Path: []byte("d/f"), Ino: 258},
		{Kind: stream.Write, Path: []byte("d/f"), Data: []byte("some data that no other test has\n")},
		{Kind: stream.MkFile, Path: []byte("odd\n\x1b[31mname"), Ino: 259},
	}
	for i := range more {
		commands = append(commands, &stream.Command{
			Kind: stream.Write, Path: []byte("d/f"), FileOffset: uint64(i), Data: []byte("x"),
		})
	}
	for _, c := range append(commands, &stream.Command{Kind: stream.End}) {
		ts.Check(w.Write(c))
	}
	ts.Check(w.Close())
}
