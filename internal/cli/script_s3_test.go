package cli

import (
	"strconv"
	"strings"
	"time"

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

// cmdS3Cold is: s3cold. From then on the server has storage classes, and a clock
// that s3pass moves.
func cmdS3Cold(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) != 0 || b.s3 == nil || b.cold != nil {
		ts.Fatalf("usage: s3cold, once, after s3")
	}
	b.cold = b.s3.Cold(b.t)
	ts.Setenv("AWS_ENDPOINT_URL", b.cold.Endpoint)
}

// cmdS3Pass is: s3pass TIME. It lets time pass at the server: 48h.
func cmdS3Pass(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) != 1 || b.cold == nil {
		ts.Fatalf("usage: s3pass TIME, after s3cold")
	}
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	b.cold.Advance(d)
}

// cmdS3Asked is: s3asked OBJECTS TIMES. So many objects have been asked for, each so
// many times.
func cmdS3Asked(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) != 2 || b.cold == nil {
		ts.Fatalf("usage: s3asked OBJECTS TIMES, after s3cold")
	}
	objects, err := strconv.Atoi(args[0])
	ts.Check(err)
	times, err := strconv.Atoi(args[1])
	ts.Check(err)
	all := b.cold.AskedAll()
	for key, n := range all {
		if n != times {
			ts.Fatalf("%s was asked for %d times, want %d", key, n, times)
		}
	}
	if len(all) != objects {
		ts.Fatalf("asked for: %v, want %d objects", all, objects)
	}
}
