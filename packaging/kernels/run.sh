#!/bin/sh
# Runs the local part of the demo on Debian's kernels, each in a QEMU guest that
# has nothing but the program, btrfs-progs and busybox: run.sh [SERIES...], by
# default 6.1 and 6.12. Needs root for apt-get, on amd64. ACCEL=kvm takes KVM,
# where that works, instead of emulation; KEEP=1 leaves the guest's files.
set -eu

cd "$(dirname "$0")/../.."
[ "$(uname -m)" = x86_64 ] || { echo "the guests are for amd64" >&2; exit 1; }
[ -x bin/buttersink ] || { echo "bin/buttersink is missing: make build" >&2; exit 1; }
[ $# -gt 0 ] || set -- 6.1 6.12

want=""
need() { command -v "$1" >/dev/null 2>&1 || want="$want $2"; }
need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need cpio cpio
need depmod kmod
need btrfs btrfs-progs
if [ -n "$want" ]; then
	[ "$(id -u)" = 0 ] || { echo "these packages are missing:$want; install them, or run this as root" >&2; exit 1; }
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	# shellcheck disable=SC2086 # the words are package names
	apt-get install -y -qq --no-install-recommends $want >/dev/null
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/buttersink-kernels.XXXXXX")
cleanup() {
	status=$?
	trap - EXIT
	[ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# newest SERIES: the package with Debian's newest cloud kernel of a series.
newest() {
	apt-cache pkgnames "linux-image-$1." |
		grep -E -- "-cloud-amd64\$" | sort -V | tail -n 1
}

# kernel SERIES: unpacks its kernel below $work/SERIES.
kernel() {
	package=$(newest "$1")
	if [ -z "$package" ] && [ "$(id -u)" = 0 ]; then
		apt-get update -qq
		package=$(newest "$1")
	fi
	[ -n "$package" ] || { echo "apt knows no kernel $1 (linux-image-$1.*-cloud-amd64)" >&2; exit 1; }
	mkdir -p "$work/$1"
	(cd "$work/$1" && apt-get -qq -o APT::Sandbox::User=root download "$package" && dpkg-deb -x ./*.deb .)
}

# program FILE...: copies programs and the libraries they are linked with into
# the guest.
program() {
	for file in "$@"; do
		file=$(command -v "$file")
		mkdir -p "$root/bin"
		cp -L "$file" "$root/bin/"
		# Not every program has libraries.
		for library in $(ldd "$file" 2>/dev/null | grep -oE '/[^ ]+\.so[^ ]*' || true); do
			mkdir -p "$root$(dirname "$library")"
			cp -Lu "$library" "$root$library"
		done
	done
}

# modules SERIES: copies what btrfs and loop need, in the order of loading.
modules() {
	release=$(ls "$work/$1/lib/modules")
	depmod -b "$work/$1" "$release"
	mkdir -p "$root/modules"
	for module in btrfs loop; do
		modprobe -d "$work/$1" -S "$release" --show-depends "$module"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
		case $file in
		*.xz) xz -dc "$file" >"$root/modules/$(basename "$file" .xz)" ;;
		*) cp "$file" "$root/modules/" ;;
		esac
		basename "$file" .xz
	done >"$root/modules/order"
}

# guest SERIES: makes the guest's root file system, an initramfs.
guest() {
	root=$work/$1/root
	mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/src/bin" "$root/src/packaging" "$root/src/internal"
	program busybox btrfs mkfs.btrfs mountpoint
	modules "$1"
	cp packaging/kernels/init "$root/init"
	cp bin/buttersink "$root/src/bin/"
	cp packaging/demo.sh "$root/src/packaging/"
	cp -r docs "$root/src/"
	cp -r internal/cli "$root/src/internal/"
	(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/$1/initrd.gz"
}

# boot SERIES: runs the guest to its end and fails if the demo in it does. The
# models of processors newer than Nehalem, and cmpxchg16b, make the emulation of
# QEMU 7.2 crash kernels.
boot() {
	case ${ACCEL:-tcg} in
	kvm) accel="-accel kvm -cpu host" ;;
	*) accel="-accel tcg,thread=multi -cpu Nehalem,-cx16" ;;
	esac
	# shellcheck disable=SC2086 # the words of accel are arguments
	timeout "${BOOT_TIMEOUT:-900}" qemu-system-x86_64 $accel -smp 2 -m 2000 -nographic -no-reboot -nic none \
		-kernel "$work/$1"/boot/vmlinuz-* -initrd "$work/$1/initrd.gz" \
		-append "console=ttyS0 quiet panic=-1 rdinit=/init" </dev/null | tee "$work/$1/console"
	tr -d '\r' <"$work/$1/console" | grep -q '^the demo ends with 0$'
}

failed=""
for series in "$@"; do
	kernel "$series"
	guest "$series"
	boot "$series" || failed="$failed $series"
done
[ -z "$failed" ] || { echo "the demo fails on Linux$failed" >&2; exit 1; }
echo "the demo works on Linux $*"
