#!/bin/sh
# Runs every fuzz target of the house for a while: fuzz.sh DURATION
set -eu

cd "$(dirname "$0")/.."
for pkg in $(go list ./internal/...); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "$target in $pkg"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-10s}" -fuzzminimizetime 10x "$pkg"
	done
done
