#!/bin/sh
# Shows the main job on two scratch file systems: a dozen snapshots, a plan, a
# sync, an incremental sync, a listing, equal trees. Cleans up after itself.
set -eu

cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "the demo mounts scratch file systems: run it as root" >&2
	exit 1
fi
here=$(mktemp -d "${TMPDIR:-/tmp}/buttersink-demo.XXXXXX")
cleanup() {
	status=$?
	trap - EXIT
	for fs in a b; do
		mountpoint -q "$here/$fs" && umount "$here/$fs"
	done
	rm -rf "$here"
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

PATH="$PWD/bin:$PATH"
BUTTERSINK_STATE="$here/state"
export PATH BUTTERSINK_STATE

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() {
	printf '$ %s\n' "$(echo "$*" | sed "s|$here||g")"
	status=0
	"$@" >"$here/output" 2>&1 || status=$?
	sed "s|$here||g" "$here/output"
	return $status
}

for fs in a b; do
	truncate -s 1G "$here/$fs.img"
	mkfs.btrfs -q "$here/$fs.img" >/dev/null
	mkdir "$here/$fs"
	mount -o loop,noatime "$here/$fs.img" "$here/$fs"
	mkdir "$here/$fs/snaps"
done
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

say "What a sync would do, and what it would cost: nothing is written"
run buttersink -n "$a/snaps/" "$b/snaps/"

say "The sync"
run buttersink "$a/snaps/" "$b/snaps/"

say "Two days later only the increments go over"
change 11
change 12
run buttersink "$a/snaps/" "$b/snaps/"

say "The destination has the same snapshots, with the same identities"
run buttersink list "$b/snaps/"

say "And the same content: every file, its owner, mode, time and links"
mkdir "$here/sums.a" "$here/sums.b"
for fs in a b; do
	(cd "$here/sums.$fs" && buttersink checksumdir "$here/$fs"/snaps/day* >/dev/null 2>&1)
done
if ! diff -r "$here/sums.a" "$here/sums.b"; then
	echo "the trees differ" >&2
	exit 1
fi
equal=$(find "$here/sums.b" -name '*.sha256sum' | wc -l)
[ "$equal" = 12 ] || { echo "$equal snapshots instead of 12" >&2; exit 1; }
echo "$equal snapshots have equal digests"
