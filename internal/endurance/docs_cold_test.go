package endurance

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/buttersink/buttersink/internal/glaciertest"
	"github.com/buttersink/buttersink/internal/s3test"
)

// coldPage goes through weeks, by the clocks of the servers.
var coldPage = docScene{chapters: map[string]chapter{
	"Storing": {
		before: func(w *world) {
			w.run(`buttersink cost --print-prices | sed 's/^provider = .*/provider = "*"/' >aws.toml`)
		},
		steps: []step{
			{line: "buttersink -n /mnt/a/snaps/ 's3://bucket/home/?storage-class=DEEP_ARCHIVE'", fill: asAtAWS},
		},
	},
	"Restoring": {
		before: func(w *world) {
			w.run("buttersink /mnt/a/snaps/ 's3://bucket/snaps/?storage-class=DEEP_ARCHIVE'")
		},
		steps: []step{
			{line: "buttersink -n s3://bucket/snaps/tuesday /mnt/b/restored/", fill: asAtAWS},
			{line: "buttersink s3://bucket/snaps/tuesday /mnt/b/restored/", fill: asAtAWS, code: pending},
			{line: "  Asked for before, and not readable yet: 2 streams (154.6 MiB)", run: "buttersink s3://bucket/snaps/tuesday /mnt/b/restored/", code: pending},
			{line: "buttersink s3://bucket/snaps/tuesday /mnt/b/restored/", before: func(w *world) {
				w.cold.Advance(s3test.DeepBulkTime)
				w.elsewhere()
			}},
			{line: "buttersink thaw --tier standard s3://bucket/snaps/tuesday", fill: asAtAWS, code: pending, before: w8days},
		},
	},
	"A limit": {
		before: func(w *world) {
			w.clear("/mnt/b/restored")
			w8days(w)
		},
		steps: []step{
			// What is here is shorter than what is there, so it costs less.
			{
				line: "buttersink --max-cost 0.01 s3://bucket/snaps/tuesday /mnt/b/restored/", run: "buttersink --max-cost 0.0001 s3://bucket/snaps/tuesday /mnt/b/restored/", fill: asAtAWS,
				code: conflict, here: []string{"--max-cost 0.01", "--max-cost 0.0001"},
			},
		},
	},
	"Removing": {
		before: func(w *world) {
			// Two more come, and go again.
			w.snapshots("/mnt/a/snaps", "wednesday", "thursday")
			w.run("buttersink /mnt/a/snaps/ 's3://bucket/snaps/?storage-class=DEEP_ARCHIVE'")
			w.run("btrfs -q subvolume delete /mnt/a/snaps/wednesday /mnt/a/snaps/thursday")
			w.run("buttersink -d /mnt/a/snaps/ s3://bucket/snaps/")
		},
		steps: []step{{line: "buttersink trash empty -n --older-than 0d s3://bucket/snaps/", fill: asAtAWS}},
	},
	"What it costs": {steps: []step{
		// The prices are the same, and the table says that it is another one's.
		{line: "buttersink cost s3://bucket/snaps/", fill: asAtAWS, here: []string{"of aws, s3, us-east-1", "of *, s3, us-east-1", "the program's own table", "aws.toml"}},
	}},
	"Vaults": {steps: []step{
		{line: "buttersink init glacier://Archive/home/", after: func(w *world) {
			w.run("buttersink /mnt/a/snaps/ glacier://Archive/home/")
		}},
		{line: "buttersink glacier://Archive/home/tuesday /mnt/c/back/", code: pending},
		{line: "buttersink list glacier://Archive/home/", code: pending, before: func(w *world) {
			w.elsewhere()
			w.vaults.Advance(2 * day) // until there is an inventory at all
		}},
	}},
	"Out of a vault": {
		before: func(w *world) {
			w.run("rm -rf /var/lib/buttersink && mv /var/lib/elsewhere /var/lib/buttersink") // the machine that has stored it
			// What was thawed is not there any more, and nobody waits for hours here.
			w.carryOut("before", "", step{line: "buttersink thaw glacier://Archive/home/", code: pending})
			w.vaults.Advance(glaciertest.BulkTime)
			w.emptyBucket()
		},
	},
	"btrsend and btrsnap": {
		before: func(w *world) {
			w.users("alice", "bob")
			w.keys("alice@example.org")
			w.vaults.Make(w.t, backupVault)
			w.alice()
		},
		steps: []step{
			{line: "#!/bin/sh", run: "/home/alice/.btrsend", after: func(w *world) { w.run("chown alice: /home/alice/.btrsend && chmod 700 /home/alice/.btrsend") }},
			{
				line: `exec buttersink btrsend --archive 's3://bucket/alice/?storage-class=DEEP_ARCHIVE' --encrypt gpg:alice@example.org "$1"`,
				as:   "alice", in: "btrfs -q send /mnt/a/dated/2026-11-21",
				before: func(w *world) { w.dated("2026-11-21") },
				fill:   func(_ *world, line string) string { return "set -- 2026-11-21; " + line },
			},
			{line: "btrsnap alice"},
			{line: "btrsnap alice"},
			{line: "# /etc/systemd/system/btrsnap.service"},
			{line: "# /etc/systemd/system/btrsnap.timer"},
			{line: "systemctl enable --now btrsnap.timer"},
			{line: "btrsend -n --recipient alice@example.org 2026-12-22", as: "alice", before: (*world).twoDates},
		},
	},
	"Restoring what btrsend left": {
		steps: []step{
			{line: "buttersink 'glacier://Backup/2026-12-01?database=/home/alice/.btrsend.db' /mnt/b/restored/", code: pending, before: func(w *world) { w.clear("/mnt/b/restored") }},
			{line: "buttersink 'glacier://Backup/?layout=btrsend'", before: func(w *world) {
				w.vaults.Advance(2 * day)
				w.carryOut("before", "", step{line: "buttersink 'glacier://Backup/?layout=btrsend'", code: pending})
				w.vaults.Advance(glaciertest.InventoryTime)
			}},
			{line: "sqlite3 .btrsend.db 'select date, parent, arn from btrsend order by date'", as: "alice"},
			{line: `aws glacier initiate-job --account-id - --vault-name Backup --job-parameters '{"Type": "archive-retrieval", "ArchiveId": "ID", "Tier": "Bulk"}'`, before: (*world).aws, fill: func(w *world, line string) string {
				return w.ofEach(line, "2026-12-01") + " && " + w.ofEach(line, "2026-11-22")
			}, after: func(w *world) { w.vaults.Advance(glaciertest.BulkTime) }},
			{line: "aws glacier get-job-output --account-id - --vault-name Backup --job-id JOB 2026-11-22.gpg", fill: func(w *world, line string) string {
				return w.ofEach(line, "2026-11-22") + " && " + strings.Replace(w.ofEach(line, "2026-12-01"), "2026-11-22.gpg", "2026-12-01.gpg", 1)
			}},
			{line: "gpg -d 2026-11-22.gpg | gunzip | btrfs receive /mnt/b/restored", before: func(w *world) { w.clear("/mnt/b/restored") }},
		},
	},
}}

// asAtAWS has a line estimate as it does at AWS, which the pages tell of: the prices of
// the server here are not known.
func asAtAWS(_ *world, line string) string { return line + " --prices aws.toml" }

// w8days is longer than a thawed copy stays.
func w8days(w *world) { w.cold.Advance(8 * day) }

// elsewhere gives the world another ledger, as another machine has, and keeps the one
// that there was.
func (w *world) elsewhere() {
	w.t.Helper()
	w.run("rm -rf /var/lib/elsewhere && mv /var/lib/buttersink /var/lib/elsewhere")
}

// alice has what the page takes for granted in her home: credentials, and the public
// key that she encrypts for.
func (w *world) alice() {
	w.t.Helper()
	home := w.home("alice")
	w.write(filepath.Join(home, ".aws-keys"), fmt.Sprintf("AWSAccessKeyId=%s\nAWSSecretKey=%s\n", w.s3.Access, w.s3.Secret), 0o600)
	w.write(filepath.Join(home, ".aws/config"), fmt.Sprintf("[default]\nregion = %s\nendpoint_url = %s\nservices = here\n[services here]\nglacier =\n  endpoint_url = %s\n", s3test.Region, w.cold.Endpoint, w.vaults.Endpoint), 0o600)
	w.write(filepath.Join(home, ".aws/credentials"), fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", w.s3.Access, w.s3.Secret), 0o600)
	w.run("chown -R alice: " + home + "/.aws*; gpg --batch --export alice@example.org >/tmp/alice.pub; gpg --list-keys --with-colons alice@example.org | sed -n 's/^fpr:*\\([^:]*\\).*/\\1/p' | head -1 >/root/fingerprint")
	in := "cat /tmp/alice.pub"
	w.carryOut("alice", "", step{line: "mkdir -m 700 .gnupg && gpg --batch --quiet --import", as: "alice", in: in})
	// The page's own line, with the fingerprint.
	w.carryOut("alice", "", step{line: "gpg --import-ownertrust", as: "alice", in: "echo $(cat /root/fingerprint):6:"})
}

// twoDates has btrsend store two backups whose dates the page names, as all that is
// in the vault.
func (w *world) twoDates() {
	w.t.Helper()
	for _, a := range w.vaults.Archives(w.t, backupVault) {
		w.vaults.Delete(w.t, backupVault, a.ID)
	}
	w.run("rm -f /home/alice/.btrsend.db")
	w.dated("2026-11-22", "2026-12-01")
	send := `buttersink btrsend --recipient alice@example.org `
	w.carryOut("before", "", step{line: send + "2026-11-22", as: "alice", in: "btrfs -q send /mnt/a/dated/2026-11-22", says: "c\n"})
	w.carryOut("before", "", step{line: send + "2026-12-01", as: "alice", in: "btrfs -q send -p /mnt/a/dated/2026-11-22 /mnt/a/dated/2026-12-01", says: "i 2026-11-22\n"})
}

// ofEach puts the archive and the job of a date into a line.
func (w *world) ofEach(line, date string) string {
	w.t.Helper()
	id := strings.TrimSpace(w.run("sqlite3 /home/alice/.btrsend.db \"select arn from btrsend where date like '" + date + "%'\""))
	job := ""
	for _, j := range w.vaults.Jobs(w.t, backupVault) {
		if j.Archive == id {
			job = j.ID
		}
	}
	return strings.NewReplacer(`"ID"`, `"`+id+`"`, "JOB", job).Replace(line)
}

// aws tells Amazon's program where the servers are, which Debian's version of it has
// to be told by a flag.
func (w *world) aws() {
	w.t.Helper()
	w.write("/usr/local/bin/aws", `#!/bin/sh
case $1 in
glacier) exec /usr/bin/aws --endpoint-url "$AWS_ENDPOINT_URL_GLACIER" "$@" ;;
*) exec /usr/bin/aws --endpoint-url "$AWS_ENDPOINT_URL" "$@" ;;
esac
`, 0o755)
}

// https has the bucket served as other providers do: by https, with the bucket as a
// host.
func (w *world) https() {
	w.t.Helper()
	w.run("mkdir /root/tls && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=s3.example.net -addext 'subjectAltName=DNS:s3.example.net,DNS:*.s3.example.net' -keyout /root/tls/key -out /root/tls/cert && cat /root/tls/cert >>/etc/ssl/certs/ca-certificates.crt")
	gate := exec.Command(filepath.Join(w.top, "bin/servers/versitygw"),
		"--access", w.s3.Access, "--secret", w.s3.Secret, "--region", s3test.Region, "--quiet",
		"--virtual-domain", "s3.example.net", "--cert", "/root/tls/cert", "--key", "/root/tls/key", "--port", "127.0.0.1:443", "posix", w.s3.Dir)
	said := &output{}
	gate.Stdout, gate.Stderr = said, said
	gate.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.must(onKeptThread(gate.Start))
	w.t.Cleanup(func() {
		_ = gate.Process.Kill()
		_ = gate.Wait()
		if w.t.Failed() {
			w.t.Logf("the server says:\n%s", said)
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, code := w.shell("", "", "exec 3<>/dev/tcp/127.0.0.1/443"); code == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("it does not begin: %s", said)
		}
	}
}
