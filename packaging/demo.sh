#!/bin/sh
# Shows the main job on two scratch file systems: a dozen snapshots, a plan with
# sizes and reasons, a sync, an incremental sync, a killed run that is carried on,
# equal trees; backups to two places at once, with retention; the same over ssh, to
# an sshd of its own and with a key that allows only adding; then an archive of
# sealed files on a plain disk, and a restore from it; a job of a configuration, and
# how it stands; backups by a calendar of chains, as btrsend makes them. Cleans up
# after itself. DEMO=local ends it before ssh.
set -eu

cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "the demo mounts scratch file systems: run it as root" >&2
	exit 1
fi
here=$(mktemp -d "${TMPDIR:-/tmp}/buttersink-demo.XXXXXX")
run='' sshd=''
cleanup() {
	status=$?
	trap - EXIT
	[ -z "$run" ] || kill -9 "$run" 2>/dev/null || true
	[ -z "$run" ] || wait "$run" 2>/dev/null || true
	[ -z "$sshd" ] || kill "$sshd" 2>/dev/null || true
	[ -z "$sshd" ] || wait "$sshd" 2>/dev/null || true
	for fs in a b usb new fresh; do
		if mountpoint -q "$here/$fs" && ! umount "$here/$fs"; then
			echo "still mounted, and left alone: $here/$fs" >&2
			exit 1
		fi
	done
	rm -rf --one-file-system "$here"
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

PATH="$PWD/bin:$PATH"
BUTTERSINK_STATE="$here/state"
export PATH BUTTERSINK_STATE

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$(echo "$*" | sed "s|$here||g")"; }
run() {
	show "$@"
	status=0
	"$@" >"$here/output" 2>&1 || status=$?
	sed "s|$here||g" "$here/output"
	return $status
}

# scratch NAME...: makes btrfs file systems, and mounts them.
scratch() {
	for fs in "$@"; do
		truncate -s 1G "$here/$fs.img"
		mkfs.btrfs -q "$here/$fs.img" >/dev/null
		mkdir "$here/$fs"
		mount -o loop,noatime "$here/$fs.img" "$here/$fs"
		mkdir "$here/$fs/snaps"
	done
}
scratch a b
a=$here/a b=$here/b

say "A subvolume that changes, and a snapshot after each change"
btrfs subvolume create "$a/live" >/dev/null
change() {
	mkdir -p "$a/live/day$1"
	cp -r docs internal/cli "$a/live/day$1/"
	head -c 3000000 /dev/urandom >"$a/live/day$1/photo"
	ln "$a/live/day$1/photo" "$a/live/day$1/same photo"
	if [ "$1" -gt 2 ]; then
		mv "$a/live/day$(($1 - 1))" "$a/live/archived$(($1 - 1))"
		rm -rf "$a/live/archived$(($1 - 2))"
	fi
	btrfs subvolume snapshot -r "$a/live" "$a/snaps/day$1" >/dev/null
}
for day in 1 2 3 4 5 6 7 8 9 10; do change "$day"; done
run buttersink list "$a/snaps/"

say "What a sync would do, with exact sizes and reasons: nothing is written"
run buttersink -n "$a/snaps/" "$b/snaps/"

say "The sync"
run buttersink "$a/snaps/" "$b/snaps/"

say "Two days later only the increments go over"
change 11
change 12
run buttersink explain "$a/snaps/day12" "$b/snaps/"
run buttersink "$a/snaps/" "$b/snaps/"

say "A run that is killed in the middle of a long stream"
btrfs subvolume create "$a/films" >/dev/null
head -c 120000000 /dev/urandom >"$a/films/film"
btrfs subvolume snapshot -r "$a/films" "$a/snaps/films" >/dev/null
show buttersink --checkpoint 8MiB "$a/snaps/" "$b/snaps/"
buttersink --checkpoint 8MiB "$a/snaps/" "$b/snaps/" >"$here/killed" 2>&1 &
run=$!
points=0 last=
while [ $points -lt 4 ] && kill -0 "$run" 2>/dev/null; do
	for point in "$b"/snaps/films.checkpoint-*.part; do
		if [ -e "$point" ] && [ "$point" != "$last" ]; then
			last=$point
			points=$((points + 1))
		fi
	done
	sleep 0.01
done
kill -9 "$run" 2>/dev/null || true
wait "$run" 2>/dev/null || true
run=
echo "(kill -9)"

say "What it leaves is not taken for a snapshot, and the next run carries on from there"
run buttersink -e "$b/snaps/" | grep -e '^[$]' -e films
run buttersink "$a/snaps/" "$b/snaps/"
grep -q 'films: carried on' "$here/output" || { echo "it was not carried on" >&2; exit 1; }

say "The destination has the same snapshots, with the same identities"
run buttersink list "$b/snaps/"

say "And the same content: every file, its owner, mode, time and links"
mkdir "$here/sums.a" "$here/sums.b"
for fs in a b; do
	(cd "$here/sums.$fs" && buttersink checksumdir "$here/$fs"/snaps/* >/dev/null 2>&1)
done
if ! diff -r "$here/sums.a" "$here/sums.b"; then
	echo "the trees differ" >&2
	exit 1
fi
equal=$(find "$here/sums.b" -name '*.sha256sum' | wc -l)
[ "$equal" = 13 ] || { echo "$equal snapshots instead of 13" >&2; exit 1; }
echo "$equal snapshots have equal digests"

say "Backups: a snapshot, two places at once, and what is not due any more goes"
mkdir "$here/bin" "$here/store"
ln -s "$PWD/bin/buttersink" "$here/bin/btrfs-backup"
PATH="$here/bin:$PATH"
run buttersink init "dir://$here/store/"
for letter in one two three; do
	head -c 300000 /dev/urandom >"$a/live/letter $letter"
	run btrfs-backup -N 2 -p live- "$a/live" "$b/bk" "dir://$here/store/"
	sleep 1
done
run buttersink hold --why "before the upgrade" "$(echo "$b"/bk/live-* | cut -d ' ' -f 1)"
run buttersink prune -n --keep last:2,weekly:5 "$b/bk/"
rm "$a/live/letter one"
run btrfs-backup -N 2 -p live- --dest-keep last:2 "$a/live" "$b/bk" "dir://$here/store/"
kept=$(find "$b/bk" -mindepth 1 -maxdepth 1 -name 'live-*' | wc -l)
[ "$kept" = 3 ] || { echo "$kept snapshots instead of 3: two, and the one that is held" >&2; exit 1; }

# Where there is nothing but btrfs-progs, this is all (packaging/kernels).
[ "${DEMO:-}" != local ] || exit 0

say "The same over ssh, with a key that may only add"
scratch new
new=$here/new
mkdir "$here/ssh" "$new/far"
for key in host user; do ssh-keygen -q -t ed25519 -N '' -f "$here/ssh/$key"; done
printf 'restrict,command="buttersink --server --mode a %s/" %s\n' "$new/far" "$(cut -d ' ' -f 1,2 "$here/ssh/user.pub")" >"$here/ssh/keys"
cat >"$here/ssh/sshd_config" <<EOF
HostKey $here/ssh/host
AuthorizedKeysFile $here/ssh/keys
PidFile $here/ssh/pid
SetEnv PATH=$PATH SHLVL=1
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
EOF
mkdir -p /run/sshd # sshd wants it, and where systemd does not start it, nobody makes it
for _ in 1 2 3 4 5 6 7 8 9 10; do
	port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 10000))
	/usr/sbin/sshd -D -e -f "$here/ssh/sshd_config" -o ListenAddress=127.0.0.1 -p $port 2>"$here/ssh/log" &
	sshd=$!
	# The file is there once the port is.
	while ! [ -s "$here/ssh/pid" ] && kill -0 "$sshd" 2>/dev/null; do sleep 0.05; done
	[ ! -s "$here/ssh/pid" ] || break
	wait "$sshd" 2>/dev/null || true
	sshd=
done
if [ -z "$sshd" ]; then
	cat "$here/ssh/log" >&2
	exit 1
fi
echo "far $(cut -d ' ' -f 1,2 "$here/ssh/host.pub")" >"$here/ssh/known"
cat >"$here/ssh/config" <<EOF
Host far
HostName 127.0.0.1
HostKeyAlias far
Port $port
User root
IdentityFile $here/ssh/user
IdentitiesOnly yes
UserKnownHostsFile $here/ssh/known
EOF
show cat "$here/ssh/keys"
sed "s|$here||g" "$here/ssh/keys"
over="ssh -F $here/ssh/config"
run buttersink --ssh-command "$over" "$a/snaps/" "ssh://far$new/far/"
mkdir "$here/sums.far"
(cd "$here/sums.far" && find "$new/far" -mindepth 1 -maxdepth 1 -type d -exec buttersink checksumdir {} + >/dev/null 2>&1)
if ! diff -r "$here/sums.a" "$here/sums.far"; then
	echo "the trees over there differ" >&2
	exit 1
fi
equal=$(find "$here/sums.far" -name '*.sha256sum' | wc -l)
[ "$equal" = 13 ] || { echo "$equal snapshots instead of 13" >&2; exit 1; }
echo "$equal snapshots have equal digests"

say "Removing is not what this key is for, whoever asks"
mkdir "$b/few"
btrfs subvolume snapshot -r "$b/snaps/day12" "$b/few/day12" >/dev/null
if run buttersink --ssh-command "$over" -d "$b/few/" "ssh://far$new/far/"; then
	echo "something was removed that only could be added to" >&2
	exit 1
fi
equal=$(find "$new/far" -mindepth 1 -maxdepth 1 -type d | wc -l)
[ "$equal" = 13 ] || { echo "$equal snapshots instead of 13" >&2; exit 1; }
echo "all $equal snapshots are still there"
kill "$sshd"
wait "$sshd" 2>/dev/null || true
sshd=

truncate -s 1G "$here/usb.img"
mkfs.ext4 -q "$here/usb.img"
mkdir "$here/usb"
mount -o loop,noatime "$here/usb.img" "$here/usb"
usb=$here/usb

say "An archive on a disk that has no btrfs: only what is encrypted may go there"
show age-keygen -o "$here/key"
age-keygen -o "$here/key" 2>/dev/null
public=$(age-keygen -y "$here/key")
run buttersink init --require-encryption "dir://$usb/"
run buttersink --compress zstd --encrypt "age:$public" "$a/snaps/" "dir://$usb/"
run buttersink list "dir://$usb/"

say "Is it all right? Every byte is read, opened and checked"
run buttersink verify --data --identity "$here/key" "dir://$usb/"

say "A new machine gets everything back"
scratch fresh
fresh=$here/fresh
run buttersink --identity "$here/key" "dir://$usb/" "$fresh/snaps/"
mkdir "$here/sums.new"
# Known sizes come along, as files beside the snapshots.
(cd "$here/sums.new" && find "$fresh/snaps" -mindepth 1 -maxdepth 1 -type d -exec buttersink checksumdir {} + >/dev/null 2>&1)
if ! diff -r "$here/sums.a" "$here/sums.new"; then
	echo "the restored trees differ" >&2
	exit 1
fi
equal=$(find "$here/sums.new" -name '*.sha256sum' | wc -l)
[ "$equal" = 13 ] || { echo "$equal snapshots instead of 13" >&2; exit 1; }
echo "$equal snapshots have equal digests"

say "And without buttersink: age, zstd and btrfs do"
object=$(find "$usb/films" -name '*_None.zst.age')
mkdir "$fresh/by-hand"
show "age -d -i $here/key $object | zstd -d | btrfs receive $fresh/by-hand"
age -d -i "$here/key" "$object" | zstd -d | btrfs receive -q "$fresh/by-hand"
cmp "$a/films/film" "$fresh/by-hand/films/film"
echo "films is the same"

say "Every night, from a configuration: two places, of which one is away one night"
mkdir "$here/jobs" "$b/nights"
cat >"$here/jobs/freeze" <<END
#!/bin/sh
echo "the database is \$1"
END
chmod 755 "$here/jobs/freeze"
cat >"$here/jobs/config.toml" <<END
[stores.disk]
url = "$b/nights/"

[stores.files]
url = "dir://$here/jobs/files/"
compress = "zstd"

[jobs.live]
sources = ["$a/live"]
keep = "last:2"
max-age = "26h"
before = ["$here/jobs/freeze", "frozen"]
after-snapshot = ["$here/jobs/freeze", "working again"]

  [[jobs.live.destinations]]
  store = "disk"
  keep = "daily:7"

  [[jobs.live.destinations]]
  store = "files"
END
run buttersink -c "$here/jobs/config.toml" config check
if run buttersink -c "$here/jobs/config.toml" run; then
	echo "a destination that is away was taken for one that is served" >&2
	exit 1
fi
if run buttersink -c "$here/jobs/config.toml" status; then
	echo "status takes a destination that was never served for well" >&2
	exit 1
fi
mkdir "$here/jobs/files"
run buttersink init "dir://$here/jobs/files/"
run buttersink -c "$here/jobs/config.toml" run
run buttersink -c "$here/jobs/config.toml" status
run buttersink -c "$here/jobs/config.toml" history

say "Backups by a calendar: the program says what it wants, and takes only what is whole"
mkdir "$here/calendar" "$here/calendar/store" "$a/dated"
ln -s "$PWD/bin/buttersink" "$here/bin/btrsend"
cd "$here/calendar"
run buttersink init "dir://$here/calendar/store/"
# offer DATE [LENGTH]: asks whether the snapshot of a date is wanted, and gives it, or
# only its first bytes.
offer() {
	rm -f door answer
	mkfifo door
	show "btrsend --archive dir://$here/calendar/store/ $1"
	btrsend --archive "dir://$here/calendar/store/" "$1" <door >answer 2>output &
	run=$!
	exec 3>door
	while [ ! -s answer ] && kill -0 "$run" 2>/dev/null; do sleep 0.05; done
	wanted=$(cat answer)
	echo "${wanted:-(nothing)}"
	case $wanted in
	c) btrfs -q send -f stream "$a/dated/$1" ;;
	'i '*) btrfs -q send -p "$a/dated/${wanted#i }" -f stream "$a/dated/$1" ;;
	*) : >stream ;;
	esac
	# What is refused is not read to its end.
	head -c "${2:-1000000000}" stream >&3 2>/dev/null || true
	exec 3>&-
	status=0
	wait "$run" || status=$?
	run=
	sed "s|$here||g" output
	return $status
}
for date in 2026-01-01 2026-01-02 2026-01-07; do
	echo "$date" >"$a/live/date"
	btrfs subvolume snapshot -r "$a/live" "$a/dated/$date" >/dev/null
	offer "$date"
done
echo 2026-01-14 >"$a/live/date"
btrfs subvolume snapshot -r "$a/live" "$a/dated/2026-01-14" >/dev/null
if offer 2026-01-14 200; then
	echo "the beginning of a stream was taken for a backup" >&2
	exit 1
fi
run buttersink list "dir://$here/calendar/store/"
mkdir "$fresh/dated"
run buttersink -q "dir://$here/calendar/store/2026-01-07" "$fresh/dated/"
cmp "$a/dated/2026-01-07/date" "$fresh/dated/2026-01-07/date"
echo "what comes back is the same"

say "What cold storage costs, as far as this program knows"
show buttersink cost --print-prices
buttersink cost --print-prices >prices
sed -n '/class.DEEP_ARCHIVE]/,/^$/p' prices | head -7
