package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/buttersink/buttersink/internal/config"
)

// warnOf tells of troubles that nothing fails for now.
func (env *Env) warnOf(troubles []*config.Trouble) {
	for _, t := range troubles {
		env.Log.Warn(t.Error())
	}
}

// besides are the troubles of what jobs have to do with and do not fail for: who
// is told, and keys that are for reading.
func besides(f *config.File, jobs []*config.Job) []*config.Trouble {
	var some []*config.Trouble
	for _, j := range jobs {
		for _, n := range f.Notices {
			if slices.Contains(j.Notify, n.Name) {
				some = append(some, n.Troubles...)
			}
		}
		for _, d := range j.Destinations {
			if t := troubleWith("identity", d.Troubles); t != nil {
				some = append(some, t)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(f.Troubles), func(t *config.Trouble) bool { return !slices.Contains(some, t) })
}

// troubleWith is the trouble with a key; nil if there is none.
func troubleWith(key string, troubles []*config.Trouble) *config.Trouble {
	i := slices.IndexFunc(troubles, func(t *config.Trouble) bool { return t.Key == key })
	if i < 0 {
		return nil
	}
	return troubles[i]
}

// unusable says at which destinations nothing could be kept.
func (r *backupRun) unusable() error {
	var all []error
	for _, t := range r.targets {
		if t.unusable != nil {
			all = append(all, fmt.Errorf("%s: %w", t.name, t.unusable))
		}
	}
	return errors.Join(all...)
}

// inTrouble is an error about the values of a flag, or the trouble of the store that
// they are from: it says where they stand.
func (p site) inTrouble(key string, values []string, err error) error {
	if err == nil || p.store == nil {
		return err
	}
	t := troubleWith(key, p.store.troubles)
	from := slices.ContainsFunc(p.store.settings, func(s config.Setting) bool {
		return s.Key == key && slices.Equal(s.Values, values)
	})
	if t == nil || !from {
		return err
	}
	return &exitError{code: exitConfig, err: &t.Problem}
}
