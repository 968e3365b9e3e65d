package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/pace"
	"github.com/buttersink/buttersink/internal/place"
)

// namedStore is a store of the configuration that an argument names.
type namedStore struct {
	name     string
	settings []config.Setting
	options  *syncOptions // the settings
	troubles []*config.Trouble
}

// placeOf reads an argument, which is the command's fault if it is wrong. That of
// store:// is looked up in the configuration.
func (env *Env) placeOf(command, arg string, destination bool) (site, error) {
	scheme, rest := place.Split(arg)
	if scheme != place.StoreScheme {
		return placeOf(command, arg, destination)
	}
	f, err := env.loadConfig()
	if err != nil {
		return site{}, err
	}
	name, path, _ := strings.Cut(rest, "/")
	path = strings.TrimLeft(path, "/")
	i := slices.IndexFunc(f.Stores, func(s config.Store) bool { return s.Name == name })
	if i < 0 {
		return site{}, usagef(command, "%q: %s", arg, noSuchStore(f, name))
	}
	if url := f.Stores[i].URL; strings.Contains(url, "{source}") && !strings.HasPrefix(url, "shell://") {
		return site{}, usagef(command, "%q: {source} in the URL of the store %s stands for something in jobs only: write the URL itself, with the name of a source in its place", arg, name)
	}
	p, err := placeIn(f.Stores[i], path, destination)
	if err != nil {
		return site{}, &usageError{command: command, err: fmt.Errorf("%q: %w", arg, err)}
	}
	p.Arg, p.Query = arg, "" // typed again, it means the same
	return p, nil
}

// placeIn is the place at a path below a store.
func placeIn(s config.Store, path string, destination bool) (site, error) {
	scheme, _ := place.Split(s.URL)
	if _, query, err := place.SplitQuery(scheme, path); err != nil || query != "" {
		return site{}, fmt.Errorf("options of a URL stand in the configuration, at the store %s, and not behind its name", s.Name)
	}
	url := s.URL
	switch {
	case path == "":
		destination = true // the whole store, whether or not its URL has a slash
	case scheme == "shell":
		return site{}, fmt.Errorf("the store %s is a command, which has no paths in it", s.Name)
	case slices.Contains(strings.Split(path, "/"), ".."):
		return site{}, fmt.Errorf("'..' leads out of the store %s", s.Name)
	default:
		url = config.Join(s.URL, path)
	}
	p, err := place.Parse(url, destination)
	if err != nil {
		return site{}, err
	}
	o, err := settingsOf(s.Settings)
	if err != nil {
		return site{}, fmt.Errorf("the store %s: %w", s.Name, err)
	}
	return site{Place: p, store: &namedStore{name: s.Name, settings: s.Settings, options: o, troubles: s.Troubles}}, nil
}

// called is its name; empty if there is none.
func (s *namedStore) called() string {
	if s == nil {
		return ""
	}
	return s.name
}

// knownAs is the place that a note beside the snapshots names. What lies in a store of
// the configuration, or is a destination of a job, is used as that says: who has sent
// to it by that name has typed nowhere for whom to encrypt.
func (env *Env) knownAs(command, id string) (site, error) {
	p, err := placeOf(command, id, true)
	if err != nil || p.Scheme == "shell" {
		return p, err
	}
	if err := madeHere(id, p); err != nil {
		return site{}, err
	}
	f, err := env.loadConfig()
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission): // it is not about who runs this
		return p, nil
	case err != nil:
		return site{}, err
	}
	all := slices.Clone(f.Stores)
	for _, j := range f.Jobs {
		for _, d := range j.Destinations {
			all = append(all, config.Store{Name: d.Name, URL: d.URL, Settings: d.Settings, Troubles: d.Troubles})
		}
	}
	meant, deepest := p.ID(), -1
	for _, s := range all {
		top, err := placeIn(s, "", true)
		if err != nil {
			return site{}, err
		}
		top.Place = top.At(top.store.options.s3.endpoint)
		dir, _, anything := strings.Cut(top.Dir, "{source}")
		if anything {
			dir = dir[:strings.LastIndexByte(dir, '/')+1]
		}
		dir = strings.Trim(dir, "/") + "/"
		top.Dir = p.Dir
		if top.Over(top.store.options.ssh.options).ID() != meant || len(dir) < deepest || dir != "/" && !strings.HasPrefix(strings.Trim(p.Dir, "/")+"/", dir) {
			continue
		}
		deepest, p.store, p.Options, p.Machine = len(dir), top.store, top.Options, top.Machine
	}
	return p, nil
}

// noSuchStore says which stores there are in place of the one that is meant.
func noSuchStore(f *config.File, name string) string {
	if len(f.Stores) == 0 {
		return f.Path + " has no stores; one begins with [stores.NAME]"
	}
	var names []string
	for _, s := range f.Stores {
		names = append(names, s.Name)
	}
	if name == "" {
		return "there is no name behind store://: want store://NAME/PATH, where NAME is " + strings.Join(names, " or ")
	}
	return fmt.Sprintf("%s has no store %q: it has %s", f.Path, name, strings.Join(names, ", "))
}

// ofStore is the opening with what the place's store has settings for, as far as
// they are about how it is reached and the command line says nothing.
func (o opening) ofStore(p site) opening {
	if p.store == nil {
		return o
	}
	s := p.store.options
	if o.ssh.sudo.text == "" {
		o.ssh.sudo = s.ssh.sudo
	}
	if len(o.ssh.options) == 0 {
		o.ssh.options = s.ssh.options
	}
	if o.ssh.command.text == "" {
		o.ssh.command = s.ssh.command
	}
	o.ssh.program = cmp.Or(o.ssh.program, s.ssh.program)
	o.s3.endpoint = cmp.Or(o.s3.endpoint, s.s3.endpoint)
	o.s3.pathStyle = o.s3.pathStyle || s.s3.pathStyle
	o.keep.class = cmp.Or(o.keep.class, s.keep.class)
	o.keep.sse = cmp.Or(o.keep.sse, s.keep.sse)
	o.keep.kmsKey = cmp.Or(o.keep.kmsKey, s.keep.kmsKey)
	o.mount = cmp.Or(o.mount, s.mount)
	o.plainWire = o.plainWire || s.wire.compression.never
	if o.limit == nil {
		o.limit = pace.New(s.wire.limit.bytes)
	}
	o.local.KernelSend = o.local.KernelSend || s.kernelSend
	o.local.Plain = o.local.Plain || s.decompress
	// Whoever opens it has to know how it seals; if not, nothing gets there in plain.
	o.archive.RequireEncryption = o.archive.RequireEncryption || s.requireEncryption
	return o
}

// identities are the files with keys for a place, of which some may have been
// given.
func (p site) identities(given []string) []string {
	if len(given) == 0 && p.store != nil {
		return p.store.options.identity
	}
	return given
}

// aboutReaching are the settings of a store that decide how it is reached and read.
var aboutReaching = []string{
	"decompress", "estimate", "identity", "kernel-send", "limit", "s3-endpoint", "s3-path-style",
	"ssh-command", "ssh-opt", "ssh-program", "ssh-sudo", "wire-compression",
}

// aboutWriting are the settings of a store that decide what is put there, and how.
var aboutWriting = []string{
	"again", "checkpoint", "compress", "encrypt", "kms-key", "max-chain", "max-full", "max-restore", "mount",
	"parallel", "part-size", "require-encryption", "sse", "storage-class",
}

// settle gives a command that writes to the place the flags that its store has
// settings for, but for those that were given, and those that it does not have.
func (p site) settle(cmd *cobra.Command) error {
	if p.store == nil {
		return nil
	}
	for _, s := range p.store.settings {
		f := cmd.Flags().Lookup(s.Key)
		if f == nil || f.Changed || !slices.Contains(aboutWriting, s.Key) {
			continue
		}
		if err := set(cmd, s.Key, s.Values); err != nil {
			return fmt.Errorf("the store %s, %s: %w", p.store.name, s.Key, err)
		}
	}
	return nil
}

// settled are the flags of a command for one of several places: those of its
// store, where they were not given.
func (p site) settled(cmd *cobra.Command, o *syncOptions) (*syncOptions, error) {
	if p.store == nil {
		return o, nil
	}
	own := *o
	flags := settingFlags(&own) // which are at their defaults now
	for _, s := range p.store.settings {
		if err := set(flags, s.Key, s.Values); err != nil {
			return nil, fmt.Errorf("the store %s, %s: %w", p.store.name, s.Key, err)
		}
	}
	return &own, takeOver(cmd, flags)
}

// takeOver gives flags of settings what was typed of them.
func takeOver(cmd, flags *cobra.Command) error {
	for _, key := range slices.Concat(aboutReaching, aboutWriting) {
		if given := cmd.Flags().Lookup(key); given != nil && given.Changed {
			if err := set(flags, key, valuesOf(given.Value)); err != nil {
				return fmt.Errorf("setting --%s: %w", key, err)
			}
		}
	}
	return nil
}

// valuesOf are the values of a flag as they could be typed.
func valuesOf(v fmt.Stringer) []string {
	if list, ok := v.(interface{ GetSlice() []string }); ok {
		return list.GetSlice()
	}
	return []string{v.String()}
}
