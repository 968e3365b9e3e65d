package cli

import (
	"strings"
	"testing"
)

// TestConfigShowArguments: what people paste into a report has no argument of a program
// in it, unless they have asked for these.
func TestConfigShowArguments(t *testing.T) {
	path := configure(t, `
[stores.nas]
url = "ssh://nas/srv/"
ssh-command = "sshpass -p hush ssh"
ssh-opt = ["Port=2222", "ProxyCommand=ncat --proxy-auth me:hush %h %p", "LOCALCOMMAND=tell hush", "KnownHostsCommand=KEY=hush keys"]
[stores.pipe]
url = "shell://KEY=hush put"
[jobs.home]
sources = ["/home"]
before = ["/bin/echo", "hush"]
after-snapshot = [["/bin/echo"], ["/bin/echo", "--password", "hush"]]
after = ["/bin/echo", "hush"]
on-failure = ["/bin/echo", "hush"]
[[jobs.home.destinations]]
store = "nas"
[[jobs.home.destinations]]
url = "shell://put --key hush"
[notify.tell]
command = ["/bin/echo", "hush"]
[notify.mail]
mail = ["root"]
sendmail = ["/bin/echo", "hush"]
`)
	for _, form := range [][]string{{}, {"--json"}} {
		for _, all := range []bool{false, true} {
			args := append([]string{"config", "show", path}, form...)
			if all {
				args = append(args, "--arguments")
			}
			env, stdout, stderr := testEnv(t, "buttersink")
			if code := Main(args, env); code != 0 {
				t.Fatalf("%q: exit code %d, %s", args, code, stderr)
			}
			if got := strings.Count(stdout.String(), "hush"); (got == 0) == all {
				t.Errorf("%q shows %d secrets:\n%s", args, got, stdout)
			}
			for _, want := range []string{"/bin/echo", "sshpass", "shell://put", "Port=2222", "ProxyCommand=ncat", "LOCALCOMMAND=tell"} {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("%q does not show %s:\n%s", args, want, stdout)
				}
			}
		}
	}
}
