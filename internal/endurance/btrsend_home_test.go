package endurance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/glaciertest"
)

// everyDay makes every day one on which there is a backup.
func everyDay() string {
	days := make([]string, 31)
	for i := range days {
		days[i] = fmt.Sprint(i + 1)
	}
	return "--days-of-month " + strings.Join(days, ",")
}

// glue is what stood between snapshots and a user's program before there was
// btrsnap.
const glue = `
coproc P { exec runuser -u "$1" -- env -i HOME="$2" USER="$1" PATH="$PATH" sh -c 'cd && exec ./.btrsend "$1"' - "$4"; }
in=${P[1]} pid=$P_PID
read -r what parent <&"${P[0]}" || true
case "$what" in
c) btrfs -q send "$3/$4" >&"$in" ;;
i) btrfs -q send -p "$3/$parent" "$3/$4" >&"$in" ;;
esac
exec {in}>&-
wait "$pid"
echo "asked: $what $parent"`

// glued has the scripts of old offer the snapshot of a date.
func (h *homestead) glued(date, want string) {
	h.t.Helper()
	cmd := exec.Command(btrfstest.Program(h.t, "bash"), "-euc", glue, "glue", h.user.Name, h.home, filepath.Join(h.snaps, h.user.Name), date)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "asked: "+want {
		log, _ := os.ReadFile(filepath.Join(h.home, ".btrsend.log"))
		h.t.Fatalf("%v: %s\n%s", err, out, log)
	}
}

// asUser runs something as the user, in the home.
func (h *homestead) asUser(in []byte, name string, args ...string) string {
	h.t.Helper()
	cmd := exec.Command("runuser", append([]string{"-u", h.user.Name, "--", "env", "-i", "HOME=" + h.home, "PATH=" + os.Getenv("PATH"), name}, args...)...)
	cmd.Dir, cmd.Stdin = h.home, strings.NewReader(string(in))
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// backedUp has two days go by, the first one with the scripts of old, and looks at
// what is left in the home.
// left in the home. On the second there is trouble at first with where backups go.
func (h *homestead) backedUp(trouble, calm func()) (first, today string) {
	h.t.Helper()
	h.today()
	first, today = h.snapshot(1), ago(0)
	h.glued(first, "c")
	h.work()
	trouble()
	h.run(partly)
	calm()
	r := h.run(done)
	h.look(today)
	r.says("the increment from "+first+" to "+today, "has taken "+today)
	h.run(done).says("wants no backup")
	h.expect(first, today)
	for _, name := range []string{".btrsend.log", ".gnupg/pubring.kbx"} {
		info, err := os.Lstat(filepath.Join(h.home, name))
		if os.IsNotExist(err) && name != ".btrsend.log" {
			continue
		}
		if err != nil {
			h.t.Error(err)
		} else if out := h.asUser(nil, "stat", "-c", "%U", name); strings.TrimSpace(out) != h.user.Name {
			h.t.Errorf("%s (%v) belongs to %s", name, info.Mode(), out)
		}
	}
	log, err := os.ReadFile(filepath.Join(h.home, ".btrsend.log"))
	for _, line := range []string{
		"Attempting to create backup for date " + first + " with parent none\n",
		"Attempting to create backup for date " + today + " with parent " + first + "\n",
		"\nError: ",
	} {
		if err != nil || !strings.Contains(string(log), line) {
			h.t.Errorf("the log does not have %q: %v\n%s", line, err, log)
		}
	}
	if n := strings.Count(string(log), "Successfully created backup, arn = "); n != 2 {
		h.t.Errorf("it has made %d backups:\n%s", n, log)
	}
	if n := strings.Count(string(log), "Running .btrsend-post-hook...\n"); n != 4 {
		h.t.Errorf("the hook has run %d times:\n%s", n, log)
	}
	return first, today
}

// returned compares what was restored with the snapshots.
func (h *homestead) returned(fs *btrfstest.FS, dir string, dates ...string) {
	h.t.Helper()
	for _, date := range dates {
		if got := btrfstest.Digest(h.t, fs.Path(filepath.Join(dir, date))); got != h.digests[date] {
			h.t.Errorf("%s is not what it was", date)
		}
	}
}

// TestBtrsnapToVault is all of it: root makes a snapshot, and the user's program is
// btrsend, which stores it in a vault.
func TestBtrsnapToVault(t *testing.T) {
	h := newHomestead(t)
	keyring(t)
	server := glaciertest.Start(t)
	server.Make(t, backupVault)
	h.asUser(nil, "mkdir", "-m", "700", ".gnupg")
	// Encrypting takes no agent, and one would outlive the home.
	h.asUser([]byte("trust-model always\nno-autostart\n"), "tee", ".gnupg/gpg.conf")
	h.asUser(piped(t, nil, "gpg --batch --export "+keyOwner), "gpg", "--batch", "--quiet", "--import")
	h.asUser([]byte("AWSAccessKeyId="+server.Access+"\nAWSSecretKey="+server.Secret+"\n"), "sh", "-c", "umask 077; cat >.aws-keys")
	h.asUser([]byte("#!/bin/sh\necho hooked\n"), "sh", "-c", "cat >.btrsend-post-hook; chmod +x .btrsend-post-hook")
	h.asks("export HOME=$PWD; exec " + h.program + " btrsend --endpoint " + server.Endpoint + " --recipient " + keyOwner + " " + everyDay() + ` "$1"`)
	first, today := h.backedUp(func() { server.FailShare(1, 403, "AccessDeniedException") }, server.Calm)

	descriptions := []string{}
	for _, a := range server.Archives(t, backupVault) {
		descriptions = append(descriptions, a.Description)
	}
	if diff := cmp.Diff([]string{"btrsend backup for " + first + " (complete)", "btrsend backup for " + today + " (parent = " + first + ")"}, descriptions); diff != "" {
		t.Error(diff)
	}
	dst := btrfstest.New(t, btrfstest.Size(1<<30))
	at := []string{"glacier://" + backupVault + "/?database=" + filepath.Join(h.home, ".btrsend.db"), dst.Dir + "/"}
	for _, want := range []int{waiting, done} {
		r := startWith(t, h.state, server.Env(), at...)
		if code := r.wait(); code != want {
			t.Fatalf("restoring ends with %d:\n%s", code, r.story())
		}
		server.Advance(glaciertest.BulkTime)
	}
	h.returned(dst, "", first, today)
}

func (h *homestead) renames(from, to string) func() {
	return func() {
		if err := os.Rename(from, to); err != nil {
			h.t.Fatal(err)
		}
	}
}

// TestBtrsnapToArchive is the same with an archive in a directory.
func TestBtrsnapToArchive(t *testing.T) {
	h := newHomestead(t)
	place := filepath.Join(filepath.Dir(h.program), "archive")
	if err := os.Mkdir(place, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(place, h.user.UID, h.user.GID); err != nil {
		t.Fatal(err)
	}
	at := "dir://" + place + "/"
	h.asUser(nil, h.program, "init", at)
	h.asUser([]byte("#!/bin/sh\necho hooked\n"), "sh", "-c", "cat >.btrsend-post-hook; chmod +x .btrsend-post-hook")
	h.asks("export HOME=$PWD; exec " + h.program + " btrsend --archive " + at + " --compress zstd " + everyDay() + ` "$1"`)
	first, today := h.backedUp(h.renames(place, place+".away"), h.renames(place+".away", place))

	dst := btrfstest.New(t, btrfstest.Size(1<<30))
	r := start(t, h.state, at, dst.Dir+"/")
	if code := r.wait(); code != done {
		t.Fatalf("restoring ends with %d:\n%s", code, r.story())
	}
	h.returned(dst, "", first, today)
}
