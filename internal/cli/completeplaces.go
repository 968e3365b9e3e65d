package cli

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buttersink/buttersink/internal/btrfs"
	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/store/ssh"
)

// remoteVariable has the shells offer what is on other machines and in buckets,
// too, if it is 1: a Tab then goes over the network, and may cost something.
const remoteVariable = "BUTTERSINK_COMPLETE_REMOTE"

// archiveMarker is in the directory of every archive.
const archiveMarker = ".buttersink-archive.json"

// mostOffered is how many names are offered at once, and mostLooked how many
// entries of a directory are looked at for that.
const (
	mostOffered = 500
	mostLooked  = 100_000
)

var (
	everyScheme    = []string{"dir", "glacier", "s3", "ssh", "ssh+btrfs"}
	archiveSchemes = []string{"dir", "glacier", "s3"}
)

// placeWish says which places can stand somewhere.
type placeWish struct {
	schemes   []string
	snapshots bool // single ones too
}

// btrfs reports whether a directory of this machine can.
func (w placeWish) btrfs() bool { return slices.Contains(w.schemes, "ssh") }

// takes reports whether a place of the scheme can.
func (w placeWish) takes(scheme string) bool {
	if scheme == "btrfs" || scheme == "file" {
		return w.btrfs()
	}
	return slices.Contains(w.schemes, scheme)
}

// placesFollow offers places. They end with a slash while more can follow, and
// without one where a snapshot ends.
func (env *Env) placesFollow(wish placeWish) follow {
	return func(ctx context.Context, cmd *cobra.Command, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		words := env.placesFrom(ctx, cmd, wish, typed)
		return words[:min(len(words), mostOffered)], wordsFollow
	}
}

func (env *Env) placesFrom(ctx context.Context, cmd *cobra.Command, wish placeWish, typed string) []cobra.Completion {
	scheme, rest := place.Split(typed)
	if !strings.Contains(typed, "://") {
		var words []string
		for _, s := range wish.schemes {
			words = append(words, s+"://")
		}
		words = append(words, env.storesFor(wish)...)
		some := beginning(typed, words)
		if wish.btrfs() {
			some = append(some, namesIn(typed, offersOf(entriesAt(ctx, typed), wish))...)
		}
		return some
	}
	base := typed[:strings.LastIndexByte(typed, '/')+1]
	switch {
	case scheme == place.StoreScheme && !strings.Contains(rest, "/"):
		return beginning(typed, env.storesFor(wish))
	case scheme == place.StoreScheme:
		p, err := env.placeOf("", base, true)
		if err != nil || !wish.takes(p.Scheme) {
			return nil
		}
		return beginning(typed, slices.Concat(env.pathsOfJobs(p), env.below(ctx, cmd, wish, p, base, typed)))
	case !wish.takes(scheme):
		return nil
	}
	where := base
	if base == scheme+"://" { // what follows is relative to the current directory
		where += "./"
	}
	p, err := place.Parse(where, true)
	if err != nil {
		return nil
	}
	return beginning(typed, env.below(ctx, cmd, wish, site{Place: p}, base, typed))
}

// storesFor are the stores of the configuration that can stand somewhere.
func (env *Env) storesFor(wish placeWish) []string {
	f, err := env.loadConfig()
	if err != nil {
		return nil
	}
	var words []string
	for _, s := range f.Stores {
		if scheme, _ := place.Split(s.URL); wish.takes(scheme) {
			words = append(words, cobra.CompletionWithDesc(place.StoreScheme+"://"+s.Name+"/", place.Redact(s.URL)))
		}
	}
	return words
}

// pathsOfJobs are where jobs bring something below a store, as far as it is known
// without asking for their sources.
func (env *Env) pathsOfJobs(p site) []string {
	f, err := env.loadConfig()
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(f.Stores, func(s config.Store) bool { return s.Name == p.store.name })
	if i < 0 {
		return nil
	}
	top, _, _ := strings.Cut(f.Stores[i].URL, "?")
	top = strings.TrimRight(top, "/") + "/"
	var words []string
	for _, j := range f.Jobs {
		for _, d := range j.Destinations {
			url, _, _ := strings.Cut(d.URL, "?")
			path, ok := strings.CutPrefix(url, top)
			if !ok {
				continue
			}
			path, _, open := strings.Cut(path, "{source}")
			if open {
				path = path[:strings.LastIndexByte(path, '/')+1]
			}
			if path = strings.Trim(path, "/"); path != "" {
				words = append(words, place.StoreScheme+"://"+p.store.name+"/"+path+"/")
			}
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// below are the places in a directory of a store, of which base is the argument.
func (env *Env) below(ctx context.Context, cmd *cobra.Command, wish placeWish, p site, base, typed string) []string {
	prefix := strings.TrimPrefix(typed, base)
	var words []string
	switch {
	case p.Here(), p.Scheme == "dir" && !(wish.snapshots && isArchive(p.Dir)):
		for _, o := range offersOf(entriesAt(ctx, strings.TrimRight(p.Dir, "/")+"/"+prefix), wish) {
			words = append(words, base+o)
		}
		return words
	case p.Scheme == "dir":
	case p.Scheme == "shell" || !wish.snapshots || env.Getenv(remoteVariable) != "1":
		return nil
	}
	return env.snapshotsAt(ctx, cmd, p, base)
}

// isArchive reports whether a directory is one.
func isArchive(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, archiveMarker))
	return err == nil
}

// snapshotsAt are the snapshots of a store.
func (env *Env) snapshotsAt(ctx context.Context, cmd *cobra.Command, p site, base string) []string {
	var typed syncOptions
	if err := takeOver(cmd, settingFlags(&typed)); err != nil {
		return nil
	}
	o := opening{mode: ssh.Read, ssh: typed.ssh, s3: typed.s3}.ofStore(p)
	if p.OverSSH() { // a question at the prompt would be in the way
		o.ssh.options = append([]string{"BatchMode=yes", "ConnectTimeout=2"}, o.ssh.options...)
	}
	st, err := env.open(ctx, "", p, o)
	if err != nil {
		return nil
	}
	defer st.Close()
	inv, err := st.List(ctx)
	if err != nil {
		return nil
	}
	var words []string
	for _, s := range inv.Snapshots {
		if printable(s.Path) == s.Path {
			words = append(words, base+s.Path)
		}
	}
	slices.Sort(words)
	return words
}

// dirEntry is something in a directory of this machine.
type dirEntry struct {
	at  string // the directory as it was typed, with a slash, or empty
	dir string // the directory
	fs.DirEntry
}

// path is it as it would be typed, with a slash if it is a directory.
func (e dirEntry) path() string {
	if e.folder() {
		return e.at + e.Name() + "/"
	}
	return e.at + e.Name()
}

// folder reports whether it is a directory, or a link to one.
func (e dirEntry) folder() bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := os.Stat(filepath.Join(e.dir, e.Name()))
	return err == nil && info.IsDir()
}

// snapshot reports whether it is a read-only subvolume.
func (e dirEntry) snapshot() bool {
	f, err := os.Open(filepath.Join(e.dir, e.Name()))
	if err != nil {
		return false
	}
	defer f.Close()
	if is, err := btrfs.IsSubvolume(f); err != nil || !is {
		return false
	}
	readOnly, err := btrfs.ReadOnly(f)
	return err == nil && readOnly
}

// entriesAt are the entries of this machine whose paths begin as it was typed, by
// name. Hidden ones are left out until a dot is typed.
func entriesAt(ctx context.Context, typed string) []dirEntry {
	at, prefix := typed[:strings.LastIndexByte(typed, '/')+1], typed[strings.LastIndexByte(typed, '/')+1:]
	dir := at
	if rest, ok := strings.CutPrefix(at, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		dir = home + "/" + rest
	}
	if dir == "" {
		dir = "."
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []dirEntry
	for looked := 0; looked < mostLooked && ctx.Err() == nil; {
		some, err := f.ReadDir(1000)
		for _, e := range some {
			if strings.HasPrefix(e.Name(), prefix) && printable(e.Name()) == e.Name() && (prefix != "" || e.Name()[0] != '.') {
				all = append(all, dirEntry{at, dir, e})
			}
		}
		if looked += len(some); err != nil {
			break
		}
	}
	slices.SortFunc(all, func(a, b dirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all[:min(len(all), mostOffered)]
}

// offersOf are the names of what a place can be, or lie in.
func offersOf(entries []dirEntry, wish placeWish) []string {
	var names []string
	for _, e := range entries {
		switch {
		case !e.folder():
		case wish.snapshots && e.snapshot():
			names = append(names, e.Name())
		default:
			names = append(names, e.Name()+"/")
		}
	}
	return names
}

// namesIn are the offers below what was typed of a directory.
func namesIn(typed string, offers []string) []cobra.Completion {
	at := typed[:strings.LastIndexByte(typed, '/')+1]
	var words []cobra.Completion
	for _, o := range offers {
		words = append(words, at+o)
	}
	return words
}
