// Command buttersink creates, carries and keeps btrfs snapshots.
package main

import (
	"os"

	"github.com/buttersink/buttersink/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], cli.System())) }
