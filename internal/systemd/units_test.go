package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// analyze runs systemd-analyze on the units in a directory, and returns what it
// says: silence where all is well, but for "security".
func analyze(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(btrfstest.Program(t, "systemd-analyze"), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=", "SYSTEMD_UNIT_PATH="+dir+":")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%q: %v: %s", args, err, &out)
	}
	return out.String()
}

// written installs a timer below a directory, and returns where its units are.
func written(t *testing.T, timer Timer) (root, dir string) {
	t.Helper()
	btrfstest.Program(t, "systemd-analyze")
	btrfstest.Program(t, "systemctl")
	root = t.TempDir()
	m := &Manager{Root: root}
	p, err := m.Install(t.Context(), timer, false)
	if err == nil {
		err = m.Do(t.Context(), p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return root, filepath.Join(root, own)
}

// systemd itself reads the units, the templates and what is written beside them,
// and has nothing to say.
func TestVerify(t *testing.T) {
	odd := filepath.Join(t.TempDir(), `a  b %i $HOME ;`)
	if err := os.Mkdir(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(odd, "buttersink")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, dir := written(t, Timer{
		Job: "srv-www_1.x", Calendar: []string{"Mon..Fri 02:30", "*-*-1 04:00 Europe/Berlin"}, RandomDelay: "1h 30m",
		Program: program, Config: filepath.Join(odd, `"b" \t 'c'`, "config.toml"),
	})
	for _, unit := range []string{ServiceUnit("srv-www_1.x"), TimerUnit("srv-www_1.x")} {
		if said := analyze(t, dir, "--man=no", "verify", unit); said != "" {
			t.Errorf("%s: %s", unit, said)
		}
	}

	// The test would notice.
	template := filepath.Join(dir, ServiceTemplate)
	text, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(template, bytes.Replace(text, []byte("Nice="), []byte("Nise="), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if said := analyze(t, dir, "--man=no", "verify", ServiceUnit("srv-www_1.x")); !strings.Contains(said, "Nise") {
		t.Errorf("a misspelt key: %q", said)
	}
}

// The template as it is comes with a package, and its program with it.
func TestVerifyTemplate(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{ServiceTemplate, TimerTemplate} {
		text, err := Template(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == ServiceTemplate && !strings.Contains(text, "\nExecStart="+Program+" run %i\n") {
			t.Errorf("it does not run %s", Program)
		}
		text = strings.ReplaceAll(text, "ExecStart="+Program, "ExecStart=/bin/true")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, unit := range []string{ServiceUnit("home"), TimerUnit("home")} {
		if said := analyze(t, dir, "--man=no", "verify", unit); said != "" {
			t.Errorf("%s: %s", unit, said)
		}
	}
}

// worstExposure is what the service may score, from 0 to 100. It is 72 by systemd
// 252, and other versions ask a little more or less; it is 96 without any of the
// restrictions. A root program that runs people's hooks does not come far down.
const worstExposure = 75

// What the service may do is measured, and what it must not have is looked for:
// anything that makes a mount namespace, and anything that keeps a tree from being
// received as it was.
func TestHardened(t *testing.T) {
	_, dir := written(t, Timer{Job: "home", Calendar: []string{"daily"}})
	said := analyze(t, dir, "security", "--offline=true", "--no-pager", filepath.Join(dir, ServiceTemplate))
	score := regexp.MustCompile(`Overall exposure level for .*: ([0-9]+)\.([0-9])`).FindStringSubmatch(said)
	if score == nil {
		t.Fatalf("no score in %q", said)
	}
	t.Logf("exposure: %s.%s", score[1], score[2])
	if n, err := strconv.Atoi(score[1] + score[2]); err != nil || n > worstExposure {
		t.Errorf("the exposure is %s.%s, more than %d.%d:\n%s", score[1], score[2], worstExposure/10, worstExposure%10, said)
	}

	text, err := Template(ServiceTemplate)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			values[key] = append(values[key], strings.Fields(value)...)
		}
	}
	for _, key := range []string{
		"ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectProc", "ProcSubset",
		"ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ReadOnlyPaths",
		"ReadWritePaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "BindPaths", "BindReadOnlyPaths",
		"TemporaryFileSystem", "MountFlags", "RootDirectory", "RootImage", "PrivateIPC", "LogNamespace", "DynamicUser",
		"RestrictSUIDSGID", "DevicePolicy", "DeviceAllow", "ProtectClock", "NoNewPrivileges", "RestrictNamespaces",
		"MemoryDenyWriteExecute", "OnFailure", "WatchdogSec", "RuntimeMaxSec",
	} {
		if v, there := values[key]; there {
			t.Errorf("%s=%v is there, which the comment says why not", key, v)
		}
	}
	for _, c := range []string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "SETFCAP", "MKNOD", "SYS_ADMIN"} {
		if !slices.Contains(values["CapabilityBoundingSet"], "CAP_"+c) {
			t.Errorf("CAP_%s is missing: a tree cannot be received as it was", c)
		}
	}
	for _, c := range []string{"SYS_MODULE", "SYS_BOOT", "SYS_TIME", "SYS_RAWIO", "SYS_PTRACE", "SYSLOG", "BPF", "PERFMON", "CHECKPOINT_RESTORE"} {
		if slices.Contains(values["CapabilityBoundingSet"], "CAP_"+c) {
			t.Errorf("CAP_%s is there", c)
		}
	}
}
