# What CI does, a laptop does: .ci/run calls only these.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X github.com/buttersink/buttersink/internal/cli.version=$(VERSION)
TOOL     = $(GO) tool -modfile=tools/go.mod

.PHONY: build demo test test-go race fuzz bench lint deps servers rivals package clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/buttersink ./cmd/buttersink

# Installs the Debian packages that the tests and the demo use, where they are
# missing. Needs root and apt-get.
deps:
	sh packaging/deps.sh

# The servers that tests run against, built from pinned sources.
servers:
	cd tools/servers && $(GO) build -o ../../bin/servers/versitygw github.com/versity/versitygw/cmd/versitygw
	cd tools/servers && $(GO) build -o ../../bin/servers/toxiproxy github.com/Shopify/toxiproxy/v2/cmd/server

# What archives in S3 are compared with, of a pinned version too.
rivals:
	sh packaging/deps.sh rivals
	cd tools/rivals && $(GO) build -o ../../bin/rivals/rclone github.com/rclone/rclone

# bin/package/*.deb and *.rpm, for amd64 and arm64; VERSION=1.2.0 calls them that.
# MAINTAINER='A <a@b>' is who answers for them.
# As an ordinary user, from what Go's module proxy has.
package:
	sh packaging/package.sh

demo: deps build
	sh packaging/demo.sh

# Tests wait for disks, processes and each other more than they compute, so there are
# more of them at once than processors: in a room, and of rooms in `make race`.
PARALLEL = $(shell expr 2 \* $$(nproc))

# BUTTERSINK_TEST_REAL makes a missing real part (root, loop devices, btrfs) a
# failure instead of a skip; -count=1, because they are no part of the cache key.
test: deps servers test-go

test-go:
	BUTTERSINK_TEST_REAL=1 $(GO) test -count=1 -parallel $(PARALLEL) -timeout 40m ./...

# The rooms with goroutines, under the race detector. -short: long simulations and
# properties are shorter here, they are there in full in `make test`.
race: servers
	sh packaging/deps.sh race
	BUTTERSINK_TEST_REAL=1 $(GO) test -count=1 -race -short -p $(PARALLEL) -timeout 20m ./internal/transfer ./internal/store/... ./internal/job ./internal/ledger ./internal/awake ./internal/pace ./internal/compose ./internal/archive/... ./internal/s3test ./internal/runner ./internal/hook ./internal/notify ./internal/systemd

# A short run of every fuzz target; FUZZTIME=10m for a long one.
FUZZTIME ?= 10s
fuzz:
	sh packaging/fuzz.sh $(FUZZTIME)

# The table of docs/performance.md; BENCH=-quick leaves out what takes minutes.
BENCH ?=
bench: build deps servers rivals
	$(GO) run ./internal/bench $(BENCH)
	$(GO) test -run "^$$" -bench . ./internal/stream

# The demo on Debian's kernels 6.1 and 6.12 in emulated guests, for who asks: it
# takes minutes, root, apt-get and amd64.
.PHONY: test-kernels
test-kernels: build
	sh packaging/kernels/run.sh

lint:
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./cmd/... ./internal/...
	test -z "$$($(TOOL) gofumpt -l cmd internal | tee /dev/stderr)"
	$(TOOL) staticcheck ./...

clean:
	rm -rf bin
