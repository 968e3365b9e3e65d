#!/bin/bash
# Times buttersink against what else one would run, alternating, and prints the
# medians and their ratio: less than 1 is faster. Every run starts with dropped
# caches of the file systems (they are mounted anew) and an empty destination.
#
#   bench.sh [RUNS]     default 5
set -euo pipefail

cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "the benchmarks mount scratch file systems: run them as root" >&2; exit 1; }
runs=${1:-5}
here=$(mktemp -d "${TMPDIR:-/tmp}/buttersink-bench.XXXXXX")
unmount() { for fs in src dst; do ! mountpoint -q "$here/$fs" || umount "$here/$fs"; done; }
cleanup() { status=$?; trap - EXIT; unmount; rm -rf "$here"; exit $status; }
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
export PATH="$PWD/bin:$PATH" BUTTERSINK_STATE="$here/state" LC_ALL=C
mkdir "$here/src" "$here/dst"
src=$here/src dst=$here/dst

# Data: many small files, half of it compressible; large files; increments.
make_source() { # KIND
	truncate -s 4G "$here/src.img"
	mkfs.btrfs -q -f "$here/src.img" >/dev/null
	mount -o loop,noatime "$here/src.img" "$src"
	btrfs subvolume create "$src/live" >/dev/null
	mkdir "$src/snaps"
	case $1 in
	small)
		python3 - "$src/live" <<-'PY'
			import os, random, sys
			rng = random.Random(1)
			words = [b"%x " % rng.getrandbits(40) for _ in range(500)]
			for i in range(20000):
			    d = "%s/d%03d" % (sys.argv[1], i // 100)
			    if i % 100 == 0:
			        os.mkdir(d)
			    n = rng.randrange(0, 32768)
			    data = rng.randbytes(n) if i % 2 else b"".join(rng.choices(words, k=n // 10 + 1))[:n]
			    with open("%s/f%d" % (d, i), "wb") as f:
			        f.write(data)
		PY
		;;
	large) for i in 1 2 3; do head -c 160000000 /dev/urandom >"$src/live/f$i"; done ;;
	esac
	btrfs subvolume snapshot -r "$src/live" "$src/snaps/s0" >/dev/null
	for i in 1 2 3 4; do
		head -c 8000000 /dev/urandom >"$src/live/new$i"
		find "$src/live" -name "f*$i" | awk 'NR <= 300' | while read -r f; do echo "$i" >>"$f"; done
		btrfs subvolume snapshot -r "$src/live" "$src/snaps/s$i" >/dev/null
	done
	umount "$src"
}

fresh() { # what the destination starts from: nothing, or a copy of s0
	unmount
	rm -f "$here/dst.img"
	if [ -e "$here/base.img" ]; then
		cp --sparse=always "$here/base.img" "$here/dst.img"
	else
		truncate -s 4G "$here/dst.img"
		mkfs.btrfs -q -f "$here/dst.img" >/dev/null
	fi
	mount -o loop,noatime "$here/src.img" "$src"
	mount -o loop,noatime "$here/dst.img" "$dst"
	mkdir -p "$dst/snaps"
	sync
}

ours_full() { buttersink -qq "$src/snaps/s0" "$dst/snaps/"; }
pipe_full() { btrfs send -q "$src/snaps/s0" | btrfs receive -q "$dst/snaps"; }
# What it takes to have the same as buttersink: the data on the disk.
pipe_full_durable() { pipe_full && sync -f "$dst"; }
ours_increments() { buttersink -qq "$src/snaps/" "$dst/snaps/"; }
pipe_increments() {
	for i in 1 2 3 4; do
		btrfs send -q -p "$src/snaps/s$((i - 1))" "$src/snaps/s$i" | btrfs receive -q "$dst/snaps"
	done
}
ours_list() { buttersink list -e "$src/snaps/"; }
theirs_list() { btrfs subvolume list -puqR "$src"; }

seconds() { # COMMAND: wall seconds, what it prints thrown away
	local begun=$EPOCHREALTIME
	"$1" >/dev/null 2>"$here/errors" || { cat "$here/errors" >&2; return 1; }
	local ended=$EPOCHREALTIME
	awk -v a="$begun" -v b="$ended" 'BEGIN { printf "%.4f\n", b - a }'
}
median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

compare() { # LABEL OURS THEIRS
	: >"$here/ours"
	: >"$here/theirs"
	for _ in $(seq "$runs"); do
		fresh
		seconds "$2" >>"$here/ours"
		fresh
		seconds "$3" >>"$here/theirs"
	done
	local a b
	a=$(median <"$here/ours") b=$(median <"$here/theirs")
	awk -v l="$1" -v a="$a" -v b="$b" 'BEGIN { printf "%-46s %8.3f s %8.3f s   %.2f\n", l, a, b, a / b }'
}

printf '%-46s %10s %10s   %s\n' "median of $runs alternating runs" buttersink other ratio
for kind in small large; do
	rm -f "$here/base.img"
	make_source $kind
	compare "$kind files, full / send|receive" ours_full pipe_full
	compare "$kind files, full / send|receive and sync" ours_full pipe_full_durable
	fresh
	ours_full
	unmount
	cp --sparse=always "$here/dst.img" "$here/base.img"
	compare "$kind files, 4 increments / send|receive" ours_increments pipe_increments
	rm -f "$here/base.img" "$here/src.img"
done

truncate -s 4G "$here/src.img"
mkfs.btrfs -q -f "$here/src.img" >/dev/null
mount -o loop,noatime "$here/src.img" "$src"
btrfs subvolume create "$src/live" >/dev/null
mkdir "$src/snaps"
for i in $(seq 2000); do btrfs subvolume snapshot -r "$src/live" "$src/snaps/$i" >/dev/null; done
umount "$src"
compare "listing 2,000 snapshots / btrfs subvolume list" ours_list theirs_list
echo "buttersink's times include waiting until everything is on the disk; btrfs receive does not wait."
