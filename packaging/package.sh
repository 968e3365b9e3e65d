#!/bin/sh
# Makes the packages of the program as it is here: package.sh [ARCH...], by default
# amd64 and arm64, into bin/package/. The same source gives the same packages, byte by byte.
#
#   VERSION=1.2.0            what git says otherwise: see packaging/version.sh
#   SOURCE_DATE_EPOCH=...    the time of all files; that of the last commit otherwise
#   OUT=DIR                  where the packages go
#   MAINTAINER='A <a@b>'     who answers for them: whoever hands them to others says so;
#                            without it they say that nobody does
#   PROGRAM=FILE             take this program in place of building one
set -eu

cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- amd64 arm64
GO=${GO:-go}
OUT=${OUT:-bin/package}
: "${VERSION:=$(sh packaging/version.sh)}"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
: "${MAINTAINER:=Local build <local-build@buttersink.invalid>}"
export VERSION SOURCE_DATE_EPOCH MAINTAINER
umask 022
export LC_ALL=C TZ=UTC

mkdir -p bin/tools "$OUT"
OUT=$(cd "$OUT" && pwd)
(cd tools/package && $GO build -o ../../bin/tools/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm)
nfpm=$PWD/bin/tools/nfpm

# What nfpm takes files from: nfpm.yaml names them as they are here.
stage=$(mktemp -d "${TMPDIR:-/tmp}/buttersink-package.XXXXXX")
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT TERM HUP

$GO run ./internal/gendocs -version "$VERSION" -maintainer "$MAINTAINER" "$stage"
mkdir "$stage/units" "$stage/docs"
cp internal/systemd/units/buttersink@.service internal/systemd/units/buttersink@.timer "$stage/units/"
cp -R README.md docs/. "$stage/docs/"
cp packaging/copyright packaging/deb/lintian-overrides "$stage/"
sh packaging/licences.sh >"$stage/licences"
gzip -9n "$stage"/man/* "$stage/changelog" "$stage/licences"

for arch in "$@"; do
	if [ -n "${PROGRAM:-}" ]; then
		cp "$PROGRAM" "$stage/buttersink"
	else
		CGO_ENABLED=0 GOOS=linux GOARCH=$arch $GO build -trimpath -buildvcs=false \
			-ldflags "-s -w -X github.com/buttersink/buttersink/internal/cli.version=$VERSION" \
			-o "$stage/buttersink" ./cmd/buttersink
	fi
	chmod -R u=rwX,go=rX "$stage"
	chmod 755 "$stage/buttersink"
	find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	for kind in deb rpm; do
		ARCH=$arch STAGE=$stage "$nfpm" package --config packaging/nfpm.yaml --packager "$kind" --target "$OUT/" >/dev/null
	done
done
ls "$OUT" | grep -F -e "_${VERSION}_" -e "-${VERSION}-"
