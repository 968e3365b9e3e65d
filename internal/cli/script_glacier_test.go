package cli

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/buttersink/buttersink/internal/glaciertest"
)

// cmdGlacier is: glacier [VAULT...]. It starts a vault service that lives as long
// as the script, makes vaults, and sets the environment so that programs find it.
func cmdGlacier(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || b.glacier != nil {
		ts.Fatalf("usage: glacier [VAULT...], once")
	}
	b.glacier = glaciertest.Start(b.t)
	useS3(ts, b.glacier.Env())
	for _, vault := range args {
		b.glacier.Make(b.t, vault)
	}
}

// cmdLater is: later DURATION. The vaults' clock is moved on.
func cmdLater(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) != 1 || b.glacier == nil {
		ts.Fatalf("usage: later DURATION, after glacier")
	}
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	b.glacier.Advance(d)
}

// cmdTrouble is: trouble N OPERATION. The next N requests of a kind are refused for
// good.
func cmdTrouble(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) != 2 || b.glacier == nil {
		ts.Fatalf("usage: trouble N OPERATION, after glacier")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	b.glacier.Fail(n, 400, "PolicyEnforcedException", args[1])
}

// cmdVault is: vault NAME. It writes what is in a vault to the file NAME.vault, a
// line each: ID, size, description; and the requests so far to NAME.requests.
func cmdVault(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) != 1 || b.glacier == nil {
		ts.Fatalf("usage: vault NAME, after glacier")
	}
	var there, seen strings.Builder
	for _, a := range b.glacier.Archives(b.t, args[0]) {
		fmt.Fprintf(&there, "%s %d %s\n", a.ID, a.Size, a.Description)
	}
	for _, u := range b.glacier.Uploads(b.t, args[0]) {
		fmt.Fprintf(&there, "unfinished: %s\n", u.Description)
	}
	for _, r := range b.glacier.Requests() {
		fmt.Fprintf(&seen, "%s\n", r.Op)
	}
	write(ts, args[0]+".vault", there.String())
	write(ts, args[0]+".requests", seen.String())
}

// cmdArchive is: archive VAULT DESCRIPTION FILE. It writes the content of the archive
// with a description to a file.
func cmdArchive(ts *testscript.TestScript, neg bool, args []string) {
	b := benchOf(ts)
	if neg || len(args) != 3 || b.glacier == nil {
		ts.Fatalf("usage: archive VAULT DESCRIPTION FILE, after glacier")
	}
	for _, a := range b.glacier.Archives(b.t, args[0]) {
		if a.Description == args[1] {
			write(ts, args[2], string(b.glacier.Content(b.t, args[0], a.ID)))
			return
		}
	}
	ts.Fatalf("%s has no archive %q", args[0], args[1])
}

// cmdKeyring is: keyring NAME. It makes a home of gpg with a key that has no
// passphrase, and has programs use it. Its agent goes with the script.
func cmdKeyring(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keyring NAME")
	}
	// Not below the script's own directory: the names of an agent's sockets have to be
	// short.
	dir, err := os.MkdirTemp("", "gpg")
	ts.Check(err)
	ts.Setenv("GNUPGHOME", dir)
	ts.Defer(func() {
		kill := exec.Command("gpgconf", "--kill", "all")
		kill.Env = append(os.Environ(), "GNUPGHOME="+dir)
		if out, err := kill.CombinedOutput(); err != nil {
			benchOf(ts).t.Errorf("ending the agent of gpg: %v: %s", err, out)
		}
		ts.Check(os.RemoveAll(dir))
	})
	ts.Check(ts.Exec("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", args[0], "future-default", "default", "never"))
}

func write(ts *testscript.TestScript, name, data string) {
	ts.Check(os.WriteFile(ts.MkAbs(name), []byte(data), 0o600))
}
