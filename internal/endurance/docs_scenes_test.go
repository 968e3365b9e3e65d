package endurance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A docScene is what a page needs and how it is meant, as far as the page does not
// say so in a way that the test understands. A line that is not named here is run as
// it stands, and has to end with 0.
type docScene struct {
	before   func(*world) // furnish if there is none
	chapters map[string]chapter
}

// A chapter is what is below one heading.
type chapter struct {
	before func(*world)
	steps  []step // in the order of the page
}

// A step is a command line, or what is no command line and begins with that line.
type step struct {
	line   string
	before func(*world)
	as     string                      // whose command line it is, root's if nobody is named
	in     string                      // a command whose output it reads
	run    string                      // what is run in its place, or where a file goes
	fill   func(*world, string) string // puts in what the page leaves open
	code   int                         // how it ends
	says   string                      // what it prints, among other things
	after  func(*world)
	block  string // what the passage is that begins with it, which is no command line
	// What stands in what the page shows, and in its place here, with the reason beside
	// it; in pairs. What a page shows is compared (alike says how), without exception.
	here  []string
	shows string // what the page shows
}

// otherwise are beginnings of lines that are run in another way on every page, or not
// at all where nothing stands for them, and why.
var otherwise = []struct{ there, here, why string }{
	{"make ", "make -n -C TOP ", "the house is built and tested already while this runs; that make knows what to do is looked at"},
	{"systemctl enable --now ", "systemctl --root=/ enable ", "there is no systemd that runs; what is enabled is there at the next boot"},
	{"buttersink systemd install --now ", "buttersink systemd install --root /root/image ", "likewise, and it says so itself: a machine that does not run is given timers"},
}

// scenes are by page, and chapters by heading.
var scenes = map[string]docScene{
	"README.md":        readme,
	"docs/guide.md":    guide,
	"docs/cold.md":     coldPage,
	"docs/jobs.md":     jobs,
	"docs/s3.md":       s3Page,
	"docs/security.md": security,
	"docs/format.md":   formatPage,
	"docs/protocol.md": {chapters: map[string]chapter{"Greeting": {steps: []step{{line: `buttersink-protocol 1 {"program":"1.0","lowest":1,"highest":1,"compress":true,"dir":"/mnt/b/snaps/","mode":"a"}`, block: "what both sides say"}}}}},
	"docs/design.md":   {chapters: map[string]chapter{"Rooms": {steps: []step{{line: "cmd/buttersink/    ten lines: os.Exit(cli.Main(...))", block: "the rooms"}}}}},
}

// server is what the far side runs: it waits for the other one, who is not there.
var server = step{line: "sudo buttersink --server --mode a /mnt/b/snaps/", code: failed, says: "no client has greeted"}

var readme = docScene{
	before: func(w *world) {
		w.snapshots("/mnt/a/snaps", "monday", "tuesday")
		w.run("mkdir -p /mnt/b/snaps") // for the first line of the page; the quick start begins without
		w.keeper()
	},
	chapters: map[string]chapter{
		"Quick start": {
			before: func(w *world) { w.clear("/mnt/b") },
			steps: []step{
				{line: "buttersink s3://bucket/cold/monday /mnt/b/restored/", before: func(w *world) { w.clear("/mnt/b/restored", "/mnt/b/snaps") }, code: pending},
				{line: "buttersink btrsend --recipient me@example.org 2026-11-21", in: "btrfs -q send /mnt/a/dated/2026-11-21", before: func(w *world) {
					w.dated("2026-11-21")
					w.keys("me@example.org")
					w.vaults.Make(w.t, backupVault)
				}},
				{line: "buttersink btrsend --archive 's3://bucket/me/?storage-class=DEEP_ARCHIVE' 2026-11-21", in: "btrfs -q send /mnt/a/dated/2026-11-21"},
				{line: "buttersink btrsnap alice bob", before: func(w *world) { w.users("alice", "bob") }},
				{line: "buttersink hold --why 'before the upgrade' /home/snapshot/20261120-231455", before: held20261120},
				{line: "btrfs-backup -N 5 -n 30 @/etc/backup/home.conf", before: func(w *world) {
					w.write("/etc/backup/home.conf", "/home\n/mnt/bk/home\n", 0o644)
				}},
				{line: "buttersink config check", before: func(w *world) { w.hooks(w.read("/etc/buttersink/config.toml")) }},
				{line: "buttersink status --max-age 26h", before: func(w *world) { w.run("buttersink run -q") }}, // a night has passed
				{line: "buttersink stream verify backup.stream", before: func(w *world) {
					w.run("btrfs -q send -f /root/backup.stream /mnt/a/snaps/monday")
				}},
			},
		},
	},
}

// held20261120 makes the snapshot that the pages hold.
func held20261120(w *world) {
	w.run("[ -d /home/snapshot/20261120-231455 ] || btrfs -q subvolume snapshot -r /home /home/snapshot/20261120-231455")
}

var guide = docScene{
	before: func(w *world) {
		w.furnish()
		w.run("rmdir /mnt/b/restored") // the page makes it
	},
	chapters: map[string]chapter{
		"How it gets there": {steps: []step{server, {line: "# visudo -f /etc/sudoers.d/buttersink"}}},
		"With nothing on the other side": {
			before: func(w *world) { w.run("rm -f /usr/local/bin/buttersink") },
			steps: []step{
				// The root directory of the machine that runs the test is left as it is.
				{line: "buttersink /mnt/a/snaps/ ssh+btrfs://keeper@nas/volume1/snaps/", run: "/root/bin/buttersink /mnt/a/snaps/ ssh+btrfs://keeper@nas/mnt/volume1/snaps/"},
				{
					line: "buttersink ssh+btrfs://keeper@nas/volume1/snaps/ /mnt/a/restored/", run: "/root/bin/buttersink ssh+btrfs://keeper@nas/mnt/volume1/snaps/ /mnt/a/restored/",
					after: func(w *world) { w.run("cp /root/bin/buttersink /usr/local/bin/") },
				},
			},
		},
		"Encryption": {before: (*world).aws, steps: []step{
			{
				line:   "aws s3 cp s3://bucket/snaps/monday/OBJECT.zst.age - | age -d -i backup.key | zstd -dc | btrfs receive /mnt/b/restored",
				before: func(w *world) { w.clear("/mnt/b/restored") },
				fill: func(w *world, line string) string {
					for _, key := range w.s3.Keys(w.t, "bucket") {
						if strings.HasPrefix(key, "snaps/monday/") && strings.HasSuffix(key, ".zst.age") {
							return strings.Replace(line, "monday/OBJECT.zst.age", "monday/"+filepath.Base(key), 1)
						}
					}
					w.t.Fatal("monday is not stored")
					return ""
				},
			},
		}},
		"What is removed, and the trash": {before: func(w *world) {
			w.another("/mnt/a/few")
			w.run("buttersink --compress zstd --encrypt age:backup.pub -d /mnt/a/few/ s3://bucket/snaps/")
		}},
		"Cold storage": {
			before: func(w *world) {
				w.emptyBucket()
				w.clear("/mnt/b/restored", "/mnt/b/snaps")
			},
			steps: []step{
				{line: "buttersink s3://bucket/snaps/monday /mnt/b/restored/", code: pending, after: func(w *world) { w.cold.Advance(48 * time.Hour) }},
			},
		},
		"Retention": {steps: []step{
			{line: "--source-keep last:5,min-age:2d  --dest-keep daily:7,weekly:5,monthly:12,yearly:all", fill: flagsOfBackup},
			{line: "--dest-keep ssh://host/mnt/bk/home=monthly:24", fill: flagsOfBackup},
			{line: "buttersink hold --why 'before the upgrade' /home/snapshot/20261120-231455", before: held20261120},
		}},
	},
}

// flagsOfBackup makes a command line of what the page says about its flags.
func flagsOfBackup(_ *world, line string) string {
	return "buttersink backup --dry-run " + line + " /home /mnt/bk/home ssh://host/mnt/bk/home"
}

var s3Page = docScene{chapters: map[string]chapter{
	"Storage classes": {
		before: func(w *world) { w.snapshots("/mnt/a/snaps", "day1") },
		steps:  []step{{line: "buttersink sync --tier standard --days 14 s3://bucket/prefix/day1 /mnt/b/snaps/", code: pending}},
	},
	"Other providers": {before: (*world).https},
}}

var security = docScene{
	before: func(w *world) {
		w.snapshots("/mnt/a/snaps", "monday", "tuesday")
		w.run("mkdir -p /mnt/b/snaps " + w.far.Path("b/snaps"))
	},
	chapters: map[string]chapter{
		"With buttersink on the far side": {steps: []step{server}},
		"Setting it up": {steps: []step{
			{line: "keeper ALL=(root) NOPASSWD: /usr/local/bin/buttersink --server --mode a /mnt/b/snaps/", after: func(w *world) {
				w.run("install -m 440 /root/sudoers /etc/sudoers.d/buttersink")
			}},
			{line: `restrict,command="sudo buttersink --server --mode a /mnt/b/snaps/" ssh-ed25519 AAAA... root@laptop`, after: func(w *world) {
				w.run("mkdir -m 700 ~keeper/.ssh && install -m 600 /root/authorized_keys ~keeper/.ssh/authorized_keys && chown -R keeper: ~keeper/.ssh")
				w.carryOut("with that key", "", step{line: "buttersink /mnt/a/snaps/ ssh://keeper@host/mnt/b/snaps/"})
				w.carryOut("with that key", "", step{line: "buttersink -d /mnt/a/snaps/ ssh://keeper@host/mnt/b/snaps/", code: failed})
				w.carryOut("with that key", "", step{line: "ssh keeper@host id </dev/null", code: failed, says: "no client has greeted"})
			}},
		}},
	},
}

var formatPage = docScene{chapters: map[string]chapter{
	"Objects at a glance": {steps: []step{
		{line: "[PREFIX/]PATH/TO_FROM                  a stream, plain", block: "keys"},
		{line: "backups/home/2026-11-20/ea7c1d34-c782-584b-8144-845760163ea1_None.zst.age", block: "keys"},
	}},
	"Known sizes": {steps: []step{
		{line: "6dc79d55-8f46-da4f-a5a3-f63b54ac3ad8\tea7c1d34-c782-584b-8144-845760163ea1\t1501459", block: "a .bs object"},
	}},
	"In a vault": {steps: []step{{line: "buttersink 1 KEY", block: "descriptions of archives"}}},
	"Restoring by hand": {
		before: func(w *world) {
			w.run("age-keygen -o KEY && age-keygen -y KEY >pub")
			w.keys("me@example.org")
		},
		steps: []step{
			{line: "btrfs receive /mnt <OBJECT", fill: byHand("")},
			{line: "zstd -dc OBJECT | btrfs receive /mnt", fill: byHand("--compress zstd")},
			{line: "age -d -i KEY OBJECT | btrfs receive /mnt", fill: byHand("--encrypt age:pub")},
			{line: "age -d -i KEY OBJECT | zstd -dc | btrfs receive /mnt", fill: byHand("--compress zstd --encrypt age:pub")},
			{line: "gpg -d OBJECT | zstd -dc | btrfs receive /mnt", fill: byHand("--compress zstd --encrypt gpg:me@example.org")},
		},
	},
}}

// byHand stores a snapshot in a form of its own, and puts the names of its object and
// of a directory of btrfs into the line that restores it.
func byHand(flags string) func(*world, string) string {
	return func(w *world, line string) string {
		w.t.Helper()
		w.clear("/mnt/usb", "/mnt/b/restored")
		w.run("buttersink init dir:///mnt/usb/ && buttersink " + flags + " /mnt/a/snaps/monday dir:///mnt/usb/")
		all, err := filepath.Glob("/mnt/usb/monday/*_None*")
		w.must(err)
		for _, name := range all {
			if filepath.Ext(name) != ".json" {
				return strings.NewReplacer("OBJECT", name, "receive /mnt", "receive /mnt/b/restored").Replace(line)
			}
		}
		w.t.Fatalf("no object is there: %q", all)
		return ""
	}
}

// emptyBucket makes the bucket a new one.
func (w *world) emptyBucket() {
	w.t.Helper()
	for _, key := range w.s3.Keys(w.t, "bucket") {
		w.s3.Delete(w.t, "bucket", key)
	}
}

// keys makes a key of gpg's for somebody, in root's keyring.
func (w *world) keys(owner string) {
	w.t.Helper()
	w.run("gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-gen-key " + owner + " future-default default never")
}

// users makes users whose homes are subvolumes.
func (w *world) users(names ...string) {
	w.t.Helper()
	w.run("mkdir -p /home/btrfs/snapshot")
	for _, name := range names {
		home := w.home(name)
		w.run(fmt.Sprintf("useradd --home-dir %[1]s --no-create-home --shell /bin/sh %[2]s && btrfs -q subvolume create %[1]s && chown %[2]s: %[1]s && ln -s btrfs/%[2]s /home/%[2]s", home, name))
		w.must(os.WriteFile(filepath.Join(home, "letter"), noise(1, 300_000), 0o644))
	}
}

var jobs = docScene{chapters: map[string]chapter{
	"Stores": {before: func(w *world) { w.run("mkdir /mnt/usb/snaps && buttersink init dir:///mnt/usb/snaps/") }},
}}
