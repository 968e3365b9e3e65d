#!/bin/sh
# Installs what the tests, the demo and the benchmarks use, if it is missing:
# on a fresh Debian machine only Go has to be there. "race" adds what
# that takes besides, "rivals" what the benchmarks compare with.
set -eu

want=""
need() { command -v "$1" >/dev/null 2>&1 || want="$want $2"; }
need btrfs btrfs-progs
need mkfs.btrfs btrfs-progs
need losetup mount
need setfacl acl
need setfattr attr
need setcap libcap2-bin
need script bsdutils
need filefrag e2fsprogs
need setpriv util-linux
need dbus-daemon dbus-daemon
need systemctl systemd
need systemd-analyze systemd
need git git
need age age
need zstd zstd
need gpg gnupg
need ssh-keygen openssh-client
need_root() { [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] || want="$want $2"; } # PATH need not have it
need_root sshd openssh-server
need_root useradd passwd
need sudo sudo
need busybox busybox
need msmtp msmtp
[ -e /lib/systemd/system/dbus.service ] || want="$want dbus" # for the bus of a machine that is booted
need_root iptables iptables
need ip iproute2
need openssl openssl
need sqlite3 sqlite3
[ -x /usr/bin/aws ] || want="$want awscli" # Debian's own, wherever else there is one
need mkfs.xfs xfsprogs
need mkfs.vfat dosfstools
need mkfs.exfat exfatprogs
need_root debootstrap debootstrap
need rpm rpm
need groff groff-base
need zsh zsh
need fish fish
[ -e /usr/share/bash-completion/bash_completion ] || want="$want bash-completion"
# Amazon's own Python library, that tree hashes are held against.
/usr/bin/python3 -c 'import botocore.utils' 2>/dev/null || want="$want python3-botocore"

for extra in "$@"; do
	case $extra in
	race) need gcc "gcc libc6-dev" ;; # the race detector is linked with it
	rivals) need btrbk btrbk ;;
	esac
done

[ -n "$want" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "these packages are missing:$want; install them, or run this as root" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # the words are package names
apt-get install -y -qq --no-install-recommends $want >/dev/null
