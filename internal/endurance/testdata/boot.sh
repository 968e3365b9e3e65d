#!/bin/sh
# Boots systemd as it is installed here, in namespaces of its own: boot.sh DIR
# FROM TO..., as root and in a mount namespace that nobody else is in. The machine
# has the files of this one, below DIR/root, and keeps nothing of what is written
# to them; FROM is a directory that it has at TO. It runs until
# SIGTERM comes, and leaves nothing behind.
set -eu
top=$1
shift

if [ -z "${inside:-}" ]; then
	# Its control groups are below ones of its own, in the hierarchies that systemd
	# uses, and are the topmost that it sees.
	mkdir "$top/unified"
	mount -t cgroup2 cgroup2 "$top/unified"
	hierarchies=$top/unified
	if grep -q ':name=systemd:' /proc/self/cgroup; then
		mkdir "$top/systemd"
		mount -t cgroup -o none,name=systemd cgroup "$top/systemd"
		hierarchies="$hierarchies $top/systemd"
	fi
	for each in $hierarchies; do
		mkdir "$each/buttersink-$$"
		echo $$ >"$each/buttersink-$$/cgroup.procs"
	done
	inside=1 unshare --pid --fork --kill-child --uts --ipc --net --cgroup --mount --propagation private sh "$0" "$top" "$@" &
	machine=$!
	trap 'kill -KILL $machine' TERM INT HUP
	wait $machine || :
	wait $machine || : # the first may have been cut short
	trap '' TERM INT HUP
	for each in $hierarchies; do
		echo $$ >"$each/cgroup.procs"
		for try in 1 2 3 4 5 6 7 8 9 10; do # what was killed takes a moment to be gone
			find "$each/buttersink-$$" -depth -type d -exec rmdir {} + 2>/dev/null && break
			sleep 0.2
		done
	done
	exit 0
fi

mkdir "$top/w" "$top/root"
mount -t tmpfs tmpfs "$top/w"
mkdir "$top/w/upper" "$top/w/work"
mount -t overlay -o "lowerdir=/,upperdir=$top/w/upper,workdir=$top/w/work" overlay "$top/root"
root=$top/root
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys" # which is that of this machine, too
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
if grep -q ':name=systemd:' /proc/self/cgroup; then
	mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
	mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
	mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
else
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
while [ $# -gt 0 ]; do
	mkdir -p "$root$2"
	mount --bind "$1" "$root$2"
	shift 2
done
# Nothing of what this machine does by itself, and nobody to log in.
rm -f "$root/usr/sbin/policy-rc.d" # by which packages start nothing in a container
rm -rf "$root/etc/systemd/system" "$root/etc/buttersink" "$root/var/lib/buttersink" "$root/var/lib/systemd/timers"
mkdir -p "$root/etc/systemd/system" "$root/etc/buttersink"
printf "[Journal]\nReadKMsg=no\nStorage=volatile\n" >"$root/etc/systemd/journald.conf"
: >"$root/etc/fstab"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
ln -s /lib/systemd/system/basic.target "$root/etc/systemd/system/default.target"
for unit in sysctl modules-load udevd udev-trigger random-seed timesyncd binfmt; do
	ln -s /dev/null "$root/etc/systemd/system/systemd-$unit.service"
done
hostname booted
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /lib/systemd/systemd --system --log-target=journal --show-status=0
