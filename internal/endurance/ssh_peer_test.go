package endurance

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestSSHOldPeers: the program that this one replaces is recognised at either
// end, and so is one that is too new.
func TestSSHOldPeers(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 1, 0)
	python := `#!/bin/sh
while read -r line; do
	[ -n "$line" ] || exit 0
	printf '%s\n' '{"errorType": "Exception", "command": "buttersink-protocol", "error": "Unknown command", "server": true, "traceback": "File \"x\", line 557, in _processCommand"}'
done
`
	newer := `#!/bin/sh
read -r line
printf '%s\n' 'buttersink-protocol 1 {"program":"9.0","lowest":9,"highest":12}'
read -r line
`
	for _, test := range []struct {
		name, script string
		says         []string
	}{
		{"python", python, []string{"127.0.0.1", "old"}},
		{"newer", newer, []string{"127.0.0.1", "9.0"}},
	} {
		m.server.Script("buttersink", test.script)
		m.push().fails(failed, test.says...)
		m.run("list", m.url(m.to())).fails(failed, test.says...)
	}
	m.clean()

	m.server.Install("buttersink", program)
	cmd := exec.Command("ssh", append(m.user.Args(), "127.0.0.1", "sudo", m.served("a"))...)
	cmd.Stdin = strings.NewReader("version\nvolumes\n")
	out, err := cmd.Output()
	var reply struct{ Error, Command string }
	if json.Unmarshal(out, &reply) != nil || err == nil || reply.Error == "" || reply.Command != "version" {
		t.Errorf("an old client gets %v and %q", err, out)
	}
}

// TestSSHBanner: what a shell prints before the program begins is passed over,
// and told.
func TestSSHBanner(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 1, 300_000)
	m.server.Install("real", program)
	m.server.Script("buttersink", "#!/bin/sh\necho 'Welcome to the machine!'\necho \"It is $(date)\"\nexec real \"$@\"\n")
	r := m.push().fine()
	r.says("Welcome to the machine!")
	m.complete()
}

// TestSSHUnreachable: whatever keeps ssh from getting through is named, with what
// to do about it, and soon.
func TestSSHUnreachable(t *testing.T) {
	t.Parallel()
	m := apart(t)
	m.family("a", 1, 0)
	options := slices.Clone(m.flags)
	without := func(key string) []string {
		return slices.DeleteFunc(slices.Clone(options), func(o string) bool { return strings.HasPrefix(o, "--ssh-opt="+key+"=") })
	}
	other := m.server.User()
	for _, test := range []struct {
		name   string
		flags  []string
		change func()
		url    string
		says   []string
	}{
		{"nobody listens", options, func() {}, "ssh://" + m.user.Name + "@127.0.0.1:1" + m.to(), []string{"127.0.0.1", "refused"}},
		{"no such host", options, func() {}, "ssh://" + m.user.Name + "@no-such-host.invalid" + m.to(), []string{"no-such-host.invalid"}},
		{"another host key", append(without("UserKnownHostsFile"), "--ssh-opt=UserKnownHostsFile=/dev/null"), func() {}, "", []string{"host key"}},
		{"another key", append(without("IdentityFile"), "--ssh-opt=IdentityFile="+other.Key), func() {}, "", []string{"ermission denied"}},
		{"no sudo", options, func() { m.user.Sudoers() }, "", []string{"sudo"}},
		{"no such server", options, func() {
			m.user.Sudoers("ALL=(root) NOPASSWD: ALL")
			m.user.ForceCommand("/no/such/program")
		}, "", []string{"127.0.0.1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.change()
			url := test.url
			if url == "" {
				url = m.url(m.to())
			}
			m.flags = test.flags
			m.run("sync", "--json", m.from(), url).fails(failed, test.says...)
		})
	}
	m.clean()
}
