package cli

import (
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/buttersink/buttersink/internal/s3test"
)

// canS3 asks the bench, in a test of its own, whether it would skip.
func canS3() bool {
	p := &probe{}
	done := make(chan struct{})
	go func() { // Require ends its goroutine when it skips
		defer close(done)
		s3test.Require(p)
		p.ok = true
	}()
	<-done
	return p.ok
}

// cmdS3 is: s3 NAME. It makes a bucket, at a server that lives as long as the
// script, sets $NAME to its name, and the environment so that programs find it.
func cmdS3(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: s3 NAME")
	}
	b := benchOf(ts)
	if b.s3 == nil {
		b.s3 = s3test.Start(b.t)
		useS3(ts, b.s3.Env())
	}
	ts.Setenv(args[0], b.s3.Bucket(b.t))
}

func useS3(ts *testscript.TestScript, env []string) {
	for _, setting := range env {
		name, value, _ := strings.Cut(setting, "=")
		ts.Setenv(name, value)
	}
}

// cmdS3User is: s3user BUCKET ACTION... The programs that follow may do these
// things in the bucket only; without actions, everything everywhere.
func cmdS3User(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) < 1 || b.s3 == nil {
		ts.Fatalf("usage: s3user BUCKET [ACTION...], after s3")
	}
	if len(args) == 1 {
		useS3(ts, b.s3.Env())
		return
	}
	access, secret := b.s3.User(b.t, args[0], args[1:]...)
	useS3(ts, s3test.EnvOf(b.s3.Endpoint, access, secret))
}

// cmdS3Begin is: s3begin BUCKET KEY. It leaves an upload unfinished.
func cmdS3Begin(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) != 2 || b.s3 == nil {
		ts.Fatalf("usage: s3begin BUCKET KEY, after s3")
	}
	b.s3.Begin(b.t, args[0], args[1], []byte("the first part"))
}

// cmdS3Unfinished is: s3unfinished BUCKET N. There have to be as many unfinished
// uploads.
func cmdS3Unfinished(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) != 2 || b.s3 == nil {
		ts.Fatalf("usage: s3unfinished BUCKET N, after s3")
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	if all := b.s3.Unfinished(b.t, args[0]); len(all) != want {
		ts.Fatalf("unfinished uploads: %q, want %d", all, want)
	}
}
