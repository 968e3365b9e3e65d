package systemd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// Links of an image lead where they would if it ran: into it, as full paths and
// with more dots than it is deep.
func TestLinksOfRoot(t *testing.T) {
	btrfstest.Program(t, "systemd-analyze")
	place := func(t *testing.T, root, link, target string) {
		t.Helper()
		link = filepath.Join(root, link)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	timer := Timer{Job: "home", Calendar: []string{"daily"}, Config: "/srv/b.toml"}
	for _, c := range []struct {
		name, link string
		target     func(outside string) string
		inside     string // where in the image the units then are
	}{
		{"a full path", own, func(outside string) string { return outside }, "OUTSIDE"},
		{"dots", own, func(outside string) string { return strings.Repeat("../", 30) + outside }, "OUTSIDE"},
		{"of a directory above", "/etc", func(outside string) string { return outside }, "OUTSIDE/systemd/system"},
		{"within", own, func(string) string { return "../../usr/units" }, "usr/units"},
		{"of what is enabled", wants, func(outside string) string { return outside }, "etc/systemd/system"},
		{"of drop-ins", filepath.Dir(timerFile("home")), func(outside string) string { return outside }, "etc/systemd/system"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, outside := t.TempDir(), t.TempDir()
			m := &Manager{Root: root}
			place(t, root, c.link, c.target(outside))
			inside := filepath.Join(root, strings.ReplaceAll(c.inside, "OUTSIDE", outside))
			install(t, m, timer)
			for _, name := range []string{TimerTemplate, ServiceTemplate, "buttersink@home.service.d/" + dropIn} {
				if _, err := os.Stat(filepath.Join(inside, name)); err != nil {
					t.Errorf("it is not where it is if the image runs: %v", err)
				}
			}
			if diff := cmp.Diff([]Listed{{Job: "home", Calendar: []string{"daily"}, Enabled: true}}, list(t, m)); diff != "" {
				t.Errorf("listed (-want +got):\n%s", diff)
			}
			remove(t, m, "home")
			if all := list(t, m); len(all) > 0 {
				t.Errorf("removed, but listed: %v", all)
			}
			if _, err := os.Stat(filepath.Join(inside, TimerTemplate)); !os.IsNotExist(err) {
				t.Errorf("removed, but there: %v", err)
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
				t.Errorf("outside of the image there is %v, %v", left, err)
			}
		})
	}

	t.Run("of a file", func(t *testing.T) {
		root, outside := t.TempDir(), filepath.Join(t.TempDir(), "theirs")
		if err := os.WriteFile(outside, []byte(dropInMark), 0o644); err != nil {
			t.Fatal(err)
		}
		place(t, root, timerFile("home"), outside)
		install(t, &Manager{Root: root}, timer)
		if text, err := os.ReadFile(outside); err != nil || string(text) != dropInMark {
			t.Errorf("outside of the image there is %q, %v", text, err)
		}
	})
	t.Run("a loop", func(t *testing.T) {
		root := t.TempDir()
		place(t, root, own, "../systemd/system")
		_, err := (&Manager{Root: root}).Install(t.Context(), timer, false)
		if err == nil || !strings.Contains(err.Error(), "too many levels of symbolic links") {
			t.Error(err)
		}
	})
	t.Run("masked", func(t *testing.T) {
		root := t.TempDir()
		place(t, root, filepath.Join(own, TimerUnit("home")), "/dev/null")
		_, err := (&Manager{Root: root}).Install(t.Context(), timer, false)
		if err == nil || !strings.Contains(err.Error(), "buttersink@home.timer is masked") {
			t.Error(err)
		}
	})
	for name, target := range map[string]string{"a full path": "/dev/null", "dots": "../../../dev/null", "of a link": "void"} {
		for _, unit := range []string{TimerTemplate, TimerUnit("home"), ServiceTemplate, ServiceUnit("home")} {
			t.Run("masked, "+name+", "+unit, func(t *testing.T) {
				root := t.TempDir()
				place(t, root, filepath.Join(own, "void"), "../../../../dev/null")
				mask := filepath.Join(own, unit)
				place(t, root, mask, target)
				m := &Manager{Root: root}
				p, err := m.Install(t.Context(), timer, false)
				if err == nil {
					err = m.Do(t.Context(), p)
				}
				if err == nil || !strings.Contains(err.Error(), unit+" is masked: remove "+filepath.Join(root, mask)+" first") {
					t.Error(err)
				}
				if is, err := os.Readlink(filepath.Join(root, mask)); err != nil || is != target {
					t.Errorf("it leads to %s, %v", is, err)
				}
			})
		}
	}
	t.Run("a drop-in that is masked", func(t *testing.T) {
		root := t.TempDir()
		place(t, root, timerFile("home"), "/dev/null")
		_, err := (&Manager{Root: root}).Install(t.Context(), timer, false)
		if err == nil || !strings.Contains(err.Error(), "is masked: remove it first") {
			t.Error(err)
		}
		if is, err := os.Readlink(filepath.Join(root, timerFile("home"))); err != nil || is != "/dev/null" {
			t.Errorf("it leads to %s, %v", is, err)
		}
	})
	t.Run("enabled by somebody else", func(t *testing.T) {
		root := t.TempDir()
		link := filepath.Join(wants, TimerUnit("home"))
		place(t, root, link, "/opt/own.timer")
		install(t, &Manager{Root: root}, timer)
		if target, err := os.Readlink(filepath.Join(root, link)); err != nil || target != "/opt/own.timer" {
			t.Errorf("it leads to %s, %v", target, err)
		}
	})
}
