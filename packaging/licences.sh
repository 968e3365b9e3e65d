#!/bin/sh
# Prints the licences of everything that the program is linked with, as those
# licences ask of who hands it on.
set -eu

cd "$(dirname "$0")/.."
GO=${GO:-go}
show() { # NAME DIR
	found=
	for file in "$2"/LICEN[SC]E* "$2"/UNLICEN[SC]E* "$2"/COPYING* "$2"/NOTICE* "$2"/PATENTS*; do
		[ -f "$file" ] || continue
		found=yes
		printf '%s: %s\n\n' "$1" "${file##*/}"
		cat "$file"
		printf '\n%s\n\n' ------------------------------------------------------------------------------
	done
	[ -n "$found" ] || { echo "$1 has no licence in $2" >&2; return 1; }
}
show "Go $($GO env GOVERSION)" "$($GO env GOROOT)"
GOOS=linux CGO_ENABLED=0 $GO list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/buttersink |
	sort -u | while read -r path version dir; do
	show "$path $version" "$dir"
done
