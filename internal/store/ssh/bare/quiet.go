package bare

import (
	"context"
	"log/slog"
	"regexp"
)

// names are what btrfs send and receive say of each stream (btrfs-progs,
// cmds/send.c and cmds/receive.c), behind the name of the machine.
var names = regexp.MustCompile(`^\S+: At (subvol|snapshot) `)

// quiet is a log without the names of streams: temporary ones, which nobody knows.
type quiet struct{ slog.Handler }

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if names.MatchString(r.Message) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }
