#!/bin/sh
# Runs every fuzz target of the house for a while: fuzz.sh DURATION
set -eu

cd "$(dirname "$0")/.."
for pkg in $(go list ./internal/...); do
	listed=$(go test -list '^Fuzz' "$pkg") # fails if it does not compile
	for target in $(echo "$listed" | grep '^Fuzz' || true); do
		echo "$target in $pkg"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-10s}" -fuzzminimizetime 10x "$pkg"
	done
done
