package cli

import (
	"context"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/runner"
)

// sourcesOf returns the subvolumes that a job is about now, in the order of its
// configuration, and those of a pattern in the order of their paths. It fails where
// one that is named is none, a pattern matches none, or two of them have the same
// name.
func (env *Env) sourcesOf(ctx context.Context, j *config.Job) ([]runner.Source, error) {
	var all []runner.Source
	for _, arg := range j.Sources {
		all = append(all, runner.Source{Arg: arg, Name: config.SourceName(arg)})
	}
	return all, ctx.Err()
}
