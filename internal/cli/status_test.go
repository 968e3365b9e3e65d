package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/ledger"
)

// past is a machine on which jobs ran.
type past struct {
	state, config string
	now           time.Time
}

func newPast(t *testing.T, config string) *past {
	t.Helper()
	zone := time.Local
	time.Local = time.UTC // in which times are shown
	t.Cleanup(func() { time.Local = zone })
	dir := t.TempDir()
	d := &past{state: filepath.Join(dir, "state"), config: filepath.Join(dir, "config.toml"), now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	if err := os.WriteFile(d.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// ran notes a run that began so long ago.
func (d *past) ran(t *testing.T, job string, ago time.Duration, end ledger.Outcome, places ...ledger.PlaceRun) {
	t.Helper()
	l, err := ledger.Open(filepath.Join(d.state, ledgerFile))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	id, err := l.BeginJob(job, d.now.Add(-ago))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range places {
		p.Ended = d.now.Add(-ago + time.Minute)
		if err := l.EndPlace(id, p); err != nil {
			t.Fatal(err)
		}
	}
	if end.Result != "" {
		end.Ended = d.now.Add(-ago + 90*time.Second)
		if err := l.EndJob(id, end); err != nil {
			t.Fatal(err)
		}
	}
}

// says runs the program and compares what it says.
func (d *past) says(t *testing.T, wantCode int, wantOut, wantErr string, args ...string) {
	t.Helper()
	env, stdout, stderr := testEnv(t, "buttersink")
	env.Now = func() time.Time { return d.now }
	env.Getenv = func(name string) string {
		return map[string]string{"BUTTERSINK_STATE": d.state, "BUTTERSINK_CONFIG": d.config}[name]
	}
	code := Main(args, env)
	if code != wantCode {
		t.Errorf("%v: exit code %d, want %d", args, code, wantCode)
	}
	if diff := cmp.Diff(strings.TrimPrefix(wantOut, "\n"), stdout.String()); diff != "" {
		t.Errorf("%v: on standard output (-want +got):\n%s", args, diff)
	}
	clean := strings.NewReplacer(d.state, "STATE", d.config, "CONFIG").Replace(stderr.String())
	if diff := cmp.Diff(strings.TrimPrefix(wantErr, "\n"), clean); diff != "" {
		t.Errorf("%v: on standard error (-want +got):\n%s", args, diff)
	}
}

const twoJobs = `
[jobs.home]
sources = ["/home"]
every = "1d"
[[jobs.home.destinations]]
url = "/mnt/a/"
[[jobs.home.destinations]]
url = "/mnt/b/"

[jobs.srv]
sources = ["/srv"]
[[jobs.srv.destinations]]
url = "/mnt/a/srv/"
`

func done(source, destination string) ledger.PlaceRun {
	return ledger.PlaceRun{Source: source, Destination: destination, Result: ledger.Done}
}

func TestStatus(t *testing.T) {
	d := newPast(t, twoJobs)
	d.says(t, 1, `
JOB   PLACE               LAST SUCCESS  AGE  MISSING  CHAIN  NEXT DUE          STATE
home  /home               never         -    -        -      2026-11-20 12:00  LATE
    never ran
home  /home -> /mnt/a     never         -    -        -      2026-11-20 12:00  LATE
    never ran
home  /home -> /mnt/b     never         -    -        -      2026-11-20 12:00  LATE
    never ran
srv   /srv                never         -    -        -      -                 LATE
    never ran
srv   /srv -> /mnt/a/srv  never         -    -        -      -                 LATE
    never ran
`, `
  Nothing ever ran, as far as STATE knows
ERROR: everything is late (5 of 5).
`, "status")
	if _, err := os.Lstat(d.state); err == nil {
		t.Error("looking has made a ledger")
	}

	sent := done("/home", "/mnt/a")
	sent.Outstanding, sent.Chain, sent.Transferred, sent.Bytes, sent.Snapshot = 2, 5, 1, 3<<20, "home-20261116"
	missed := ledger.PlaceRun{Source: "/home", Destination: "/mnt/b", Result: ledger.Failed, Message: "is it mounted?\x1b[31m", Outstanding: -1}
	d.ran(t, "home", 100*time.Hour, ledger.Outcome{Result: ledger.Done}, done("/home", ""), done("/home", "/mnt/a"), done("/home", "/mnt/b"))
	d.ran(t, "home", 2*time.Hour, ledger.Outcome{Result: ledger.Failed, Message: "job home is not complete: ssh://me:secret@nas/: is it mounted?\x1b[31m"}, done("/home", ""), sent, missed)
	d.ran(t, "srv", time.Hour, ledger.Outcome{Result: ledger.Failed, Message: "the program of after: exit status 3"}, done("/srv", ""), done("/srv", "/mnt/a/srv"))
	d.says(t, 4, `
JOB   PLACE               LAST SUCCESS      AGE      MISSING  CHAIN  NEXT DUE          STATE
home  /home               2026-11-20 10:01  119 min  -        -      2026-11-21 10:00  fine
home  /home -> /mnt/a     2026-11-20 10:01  119 min  2        5      2026-11-21 10:00  fine
home  /home -> /mnt/b     2026-11-16 08:01  4 d      -        -      2026-11-21 10:00  LATE
    the last success is 4 days 3 hours old, and may be 30 hours; the last try failed: is it mounted?\x1b[31m
srv   /srv                2026-11-20 11:01  59 min   -        -      -                 fine
srv   /srv -> /mnt/a/srv  2026-11-20 11:01  59 min   0        -      -                 fine
    srv: the last run failed: the program of after: exit status 3
`, "ERROR: 1 of 5 are late.\n", "status")
	d.says(t, 0, `
JOB  PLACE               LAST SUCCESS      AGE     MISSING  CHAIN  NEXT DUE  STATE
srv  /srv                2026-11-20 11:01  59 min  -        -      -         fine
srv  /srv -> /mnt/a/srv  2026-11-20 11:01  59 min  0        -      -         fine
    srv: the last run failed: the program of after: exit status 3
`, "", "status", "srv")

	// Who asks for nothing but what is wrong gets that, once.
	d.says(t, 4, `
home: /home -> /mnt/b: the last success is 4 days 3 hours old, and may be 30 hours; the last try failed: is it mounted?\x1b[31m
`, "ERROR: 1 of 5 are late.\n", "-q", "status")
	d.says(t, 0, "", "", "status", "-q", "srv")

	// A limit of one's own holds for all: none is late by 5 days, and all by an hour.
	for age, code := range map[string]int{"5d": 0, "26h": 4, "1h": 4} {
		d.quiet(t, code, "status", "--max-age", age)
	}
	d.quiet(t, 1, "status", "--max-age", "1h", "home")
	d.quiet(t, 2, "status", "--max-age", "0h")
	d.says(t, 2, "", `
ERROR: there is no job "svr": CONFIG has home, srv.
Try 'buttersink status --help'.
`, "status", "svr")

	// What is told in JSON, in the words that people read, too.
	d.says(t, 0, `
{"event":"job","job":"srv","running":false,"last_begun":"2026-11-20T11:00:00Z","last_ended":"2026-11-20T11:01:30Z","last_result":"failed","next_due":null,"trouble":"the last run failed: the program of after: exit status 3"}
{"event":"place","job":"srv","source":"/srv","destination":"","last_success":"2026-11-20T11:01:00Z","age":3540,"limit":691200,"limit_is_usual":true,"newest_snapshot":null,"last_try":"2026-11-20T11:01:00Z","last_try_result":"done","outstanding":0,"chain":0,"bytes":0,"failed":false,"late":false}
{"event":"place","job":"srv","source":"/srv","destination":"/mnt/a/srv","last_success":"2026-11-20T11:01:00Z","age":3540,"limit":691200,"limit_is_usual":true,"newest_snapshot":null,"last_try":"2026-11-20T11:01:00Z","last_try_result":"done","outstanding":0,"chain":0,"bytes":0,"failed":false,"late":false}
{"event":"result","ok":true,"exit":0,"at":"2026-11-20T12:00:00Z","late":0,"all":2}
`, "", "status", "--json", "srv")

	// The clock is set back by a month: nothing is fine any more.
	now := d.now
	d.now = now.Add(-30 * 24 * time.Hour)
	d.quiet(t, 1, "status")
	d.quiet(t, 1, "status", "--max-age", "8w")
	d.now = now

	// The configuration is another one: only what is in it now counts.
	if err := os.WriteFile(d.config, []byte("[jobs.srv]\nsources = [\"/srv\"]\n[[jobs.srv.destinations]]\nurl = \"/mnt/c/\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.says(t, 4, `
JOB  PLACE           LAST SUCCESS      AGE     MISSING  CHAIN  NEXT DUE  STATE
srv  /srv            2026-11-20 11:01  59 min  -        -      -         fine
srv  /srv -> /mnt/c  never             -       -        -      -         LATE
    never succeeded: the last run failed: the program of after: exit status 3
`, "ERROR: 1 of 2 are late.\n", "status")
	if err := os.WriteFile(d.config, []byte("[jobs.srv]\nsauces = []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.quiet(t, 3, "status")
}

// quiet compares the exit code only.
func (d *past) quiet(t *testing.T, wantCode int, args ...string) {
	t.Helper()
	env, _, stderr := testEnv(t, "buttersink")
	env.Now = func() time.Time { return d.now }
	env.Getenv = func(name string) string {
		return map[string]string{"BUTTERSINK_STATE": d.state, "BUTTERSINK_CONFIG": d.config}[name]
	}
	if code := Main(args, env); code != wantCode {
		t.Errorf("%v: exit code %d, want %d; %s", args, code, wantCode, stderr)
	}
}

// TestStatusOfDamagedLedger holds that what cannot be read is never taken for a
// machine on which nothing ran.
func TestStatusOfDamagedLedger(t *testing.T) {
	d := newPast(t, twoJobs)
	if err := os.MkdirAll(d.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.state, ledgerFile), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"status", "history"} {
		env, stdout, stderr := testEnv(t, "buttersink")
		env.Getenv = func(name string) string {
			return map[string]string{"BUTTERSINK_STATE": d.state, "BUTTERSINK_CONFIG": d.config}[name]
		}
		if code := Main([]string{command}, env); code != 1 || stdout.String() != "" || !strings.Contains(stderr.String(), "is damaged") {
			t.Errorf("%s: exit code %d, %q, %q", command, code, stdout, stderr)
		}
	}
}

func TestHistory(t *testing.T) {
	d := newPast(t, twoJobs)
	d.says(t, 0, "BEGAN  JOB  RESULT  TOOK  TRANSFERRED  REMOVED\n", "  Nothing ever ran, as far as STATE knows\n", "history")
	d.says(t, 1, "", `
  Nothing ever ran, as far as STATE knows
ERROR: no run of a job "home" is known here.
'buttersink history' shows all that are known.
`, "history", "home")

	sent := done("/home", "/mnt/a")
	sent.Transferred, sent.Bytes, sent.Removed = 3, 5<<20, 2
	missed := ledger.PlaceRun{Source: "/home", Destination: "/mnt/b", Result: ledger.Failed, Message: "is it mounted?", Outstanding: -1}
	d.ran(t, "home", 50*time.Hour, ledger.Outcome{Result: ledger.Done}, done("/home", ""), sent)
	d.ran(t, "home", 49*time.Hour, ledger.Outcome{}, sent)
	d.ran(t, "gone", 48*time.Hour, ledger.Outcome{Result: ledger.Failed, Message: "s3://key:topsecret@bucket/: no"})
	d.ran(t, "home", -900*time.Hour, ledger.Outcome{Result: ledger.Failed, Message: "/home: the backup is not complete; /mnt/b: it is away\nthe program of after: it ended with status 3"}, sent, missed)
	d.ran(t, "home", time.Hour, ledger.Outcome{Result: ledger.Interrupted, Message: "stopped by a signal: terminated"}, ledger.PlaceRun{Source: "/home", Result: ledger.Interrupted})
	const killed = `
2026-11-20 11:00:00  home  interrupted  0:01:30  -            0
    stopped by a signal: terminated
    /home: interrupted
2026-12-28 00:00:00  home  failed       0:01:30  3 (5 MiB)    2
    the program of after: it ended with status 3
    /home -> /mnt/b: failed: is it mounted?
2026-11-18 12:00:00  gone  failed       0:01:30  -            0
    s3://key:***@bucket/: no
2026-11-18 11:00:00  home  killed       -        3 (5 MiB)    2
2026-11-18 10:00:00  home  done         0:01:30  3 (5 MiB)    2
`
	const heading = "BEGAN                JOB   RESULT       TOOK     TRANSFERRED  REMOVED"
	d.says(t, 0, heading+killed, "", "history")
	d.says(t, 0, strings.Join(strings.SplitAfter(heading+killed, "\n")[:7], ""), "", "history", "-n", "2", "home")
	d.says(t, 2, "", "ERROR: want 1 run or more, not -n 0.\nTry 'buttersink history --help'.\n", "history", "-n", "0")
	d.says(t, 2, "", "ERROR: want one job, got 2 arguments.\nTry 'buttersink history --help'.\n", "history", "a", "b")
	d.says(t, 0, `
{"event":"run","id":5,"job":"home","begun":"2026-11-20T11:00:00Z","ended":"2026-11-20T11:01:30Z","result":"interrupted","message":"stopped by a signal: terminated","places":[{"source":"/home","destination":"","ended":"2026-11-20T11:01:00Z","result":"interrupted","transferred":0,"removed":0,"bytes":0,"outstanding":0,"chain":0}]}
`, "", "history", "--json", "-n1", "home")
}

// TestRunsInJSON holds that whatever names there are, each line is one object.
func TestRunsInJSON(t *testing.T) {
	d := newPast(t, twoJobs)
	odd := "/ho\xffme\n\"<"
	d.ran(t, odd, time.Hour, ledger.Outcome{Result: ledger.Failed, Message: odd}, ledger.PlaceRun{Source: odd, Destination: odd, Result: ledger.Failed, Message: odd, Snapshot: odd})
	env, stdout, _ := testEnv(t, "buttersink")
	env.Getenv = func(name string) string { return map[string]string{"BUTTERSINK_STATE": d.state}[name] }
	if code := Main([]string{"history", "--json"}, env); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	var r runRecord
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	const want = `/ho\xffme\n"<`
	if r.Job != want || r.Message != want || r.Places[0].Source != want || r.Places[0].Snapshot != want || strings.Count(stdout.String(), "\n") != 1 {
		t.Errorf("it says %s", stdout)
	}
}

func TestEndsOf(t *testing.T) {
	runs := []ledger.JobRun{{Job: "a"}, {Job: "b", Result: ledger.Done}, {Job: "a"}, {Job: "b"}, {Job: "c"}}
	got := endsOf(runs, func(job string) bool { return job != "c" })
	if d := cmp.Diff([]string{"running", "done", "killed", "killed", "killed"}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
