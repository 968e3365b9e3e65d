#!/bin/sh
# Prints the version that packages of this commit have: one that both dpkg and rpm
# take, and that sorts as the history does.
#
#   v1.2.0             1.2.0
#   v1.3.0-rc1         1.3.0~rc1                     before 1.3.0
#   4 commits later    1.2.0+4.g1a2b3c4
#   never a release    0~20261122.031204.g1a2b3c4    before any release, by time
#   with changes       the same, and .dirty
set -eu

cd "$(dirname "$0")/.."
dirty=$(git diff --quiet HEAD -- && echo "" || echo .dirty)
if tag=$(git describe --tags --match 'v[0-9]*' --long 2>/dev/null); then
	commit=${tag##*-}
	tag=${tag%-*}
	count=${tag##*-}
	version=$(echo "${tag%-*}" | sed 's/^v//; s/-/~/g')
	[ "$count" = 0 ] || version=$version+$count.$commit
	[ "$count" != 0 ] || [ -z "$dirty" ] || dirty=+dirty
else
	version=0~$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y%m%d.%H%M%S).g$(git rev-parse --short=7 HEAD)
fi
echo "$version$dirty"
