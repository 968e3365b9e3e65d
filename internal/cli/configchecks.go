package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/buttersink/buttersink/internal/archive/seal"
	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/hook"
	"github.com/buttersink/buttersink/internal/place"
)

// configChecks are what this room knows about values of a configuration: they are
// looked at in the way of command lines.
func (env *Env) configChecks() config.Checks {
	return config.Checks{
		URL: checkPlace, Source: checkSource, Setting: checkSetting, Settings: checkSettings,
		Same: samePlace, Program: hook.Check,
	}
}

// checkPlace says what is wrong with the URL of a store, or of the destination of a
// job.
func checkPlace(kind config.Kind, url string) error {
	if rest, ok := strings.CutPrefix(url, "store://"); ok && kind != "" {
		name, path, _ := strings.Cut(rest, "/")
		return fmt.Errorf("%q is for command lines; write store = %q, path = %q", url, name, path)
	}
	p, err := place.Parse(url, true)
	switch {
	case err != nil:
		return err
	case kind == config.Calendar && !p.Archive():
		return fmt.Errorf("%q is no archive, and a calendar keeps chains in one: want dir://, s3:// or glacier://", place.Redact(url))
	case kind == config.Backup && p.OfBtrsend():
		return fmt.Errorf("%q is what btrsend has left in a vault, which a calendar carries on; write kind = %q", place.Redact(url), config.Calendar)
	}
	return nil
}

// checkSource says what is wrong with a subvolume of which snapshots are made.
func checkSource(source string) error {
	p, err := place.Parse(source, true)
	switch {
	case err != nil:
		return err
	case !p.Here() && !p.OverSSH():
		return fmt.Errorf("%q holds no subvolume: want a path, or ssh://host/path", place.Redact(source))
	}
	return nil
}

// samePlace is the same text for URLs that, with these settings, name the same place:
// what the notes beside the snapshots call it.
func samePlace(url string, all []config.Setting) string {
	p, err := place.Parse(url, true)
	if err == nil {
		p, err = rooted(p)
	}
	if err != nil {
		return url
	}
	for _, s := range all {
		switch {
		case s.Key == "s3-endpoint" && len(s.Values) > 0:
			p = p.At(s.Values[0])
		case s.Key == "ssh-opt":
			p = p.Over(s.Values)
		}
	}
	return p.ID()
}

// flagNames are flags in a message about a command line.
var flagNames = regexp.MustCompile(`--([a-z0-9]+(?:-[a-z0-9]+)*)`)

// asKeys has a message about flags speak of keys of a configuration.
func asKeys(err error) error { return &keyError{err} }

type keyError struct{ err error }

func (e *keyError) Error() string { return flagNames.ReplaceAllString(e.err.Error(), "$1") }
func (e *keyError) Unwrap() error { return e.err }

// checkSetting says what is wrong with one setting of a place, or of a source if
// url is empty.
func checkSetting(url, key string, values []string) error {
	o := &syncOptions{}
	if err := set(settingFlags(o), key, values); err != nil {
		return asKeys(err)
	}
	var err error
	switch key {
	case "compress":
		_, err = seal.ParseCompress(o.compress)
	case "encrypt":
		_, err = seal.ParseRecipients(o.encrypt)
	case "identity":
		_, err = seal.LoadKeys(o.identity)
	case "ssh-opt":
		for _, option := range values {
			if (&sshFlags{options: []string{option}}).fit("", site{Place: place.Place{Machine: place.Machine{Host: "any"}, Scheme: "ssh"}}) != nil {
				err = fmt.Errorf("%q is no option of ssh: want KEY=VALUE, as in IdentityFile=/root/.ssh/backup", option)
			}
		}
	case "part-size":
		if o.partSize > mostPart {
			err = fmt.Errorf("%d MiB are more than a part can have: want %d at most", o.partSize, mostPart)
		}
	case "max-restore":
		if o.maxRestore.bytes == 0 {
			err = errors.New("no stream is that short")
		}
	case "sse":
		_, err = (opening{keep: o.keep}).forS3(place.Place{Scheme: "s3"})
	}
	said := fullPaths(key, values)
	if p, wrong := place.Parse(url, true); wrong == nil && url != "" && said == nil {
		said = useless(p, key, values)
	}
	switch {
	case err != nil && said == nil && onlyFiles(key, values):
		return &config.StateError{Err: asKeys(err)}
	case err != nil:
		return asKeys(err)
	}
	return said
}

// onlyFiles reports whether nothing but files can be to blame for what is wrong with
// recipients or keys.
func onlyFiles(key string, values []string) bool {
	switch key {
	case "identity":
		return true
	case "encrypt":
		spelt := slices.DeleteFunc(slices.Clone(values), func(r string) bool {
			kind, who, _ := strings.Cut(r, ":")
			return kind == "age" && filepath.IsAbs(who)
		})
		if len(spelt) == len(values) {
			return false
		}
		_, err := seal.ParseRecipients(spelt)
		return err == nil
	}
	return false
}

// fullPaths fails for files that would be looked for where a run happens to begin.
func fullPaths(key string, values []string) error {
	for _, name := range values {
		if key == "encrypt" {
			kind, who, _ := strings.Cut(name, ":")
			if _, err := os.Stat(who); kind != "age" || err != nil {
				continue // a key
			}
			name = who
		}
		if (key == "encrypt" || key == "identity" || key == "mount") && !filepath.IsAbs(name) {
			return fmt.Errorf("%q is no full path, and the program may be started anywhere; write where it is, beginning with a slash", name)
		}
	}
	return nil
}

// useless fails for a setting that a place has no use for: who asks for encryption
// and gets none has to know it.
func useless(p place.Place, key string, values []string) error {
	scheme := func(some ...string) bool { return slices.Contains(some, p.Scheme) }
	const archives, s3 = "an archive (dir://, s3:// or glacier://)", "s3://"
	for _, f := range []struct {
		keys  []string
		use   bool
		where string
	}{
		{[]string{"compress", "encrypt", "require-encryption", "identity", "part-size"}, p.Archive(), archives},
		{[]string{"max-chain", "max-restore"}, p.KeepsStreams(), archives + " or a command (shell://)"},
		{[]string{"storage-class", "sse", "kms-key", "s3-endpoint", "s3-path-style"}, scheme("s3"), s3},
		{[]string{"ssh-command", "ssh-opt", "ssh-sudo"}, p.OverSSH(), "ssh:// and ssh+btrfs://"},
		{[]string{"ssh-program", "wire-compression"}, scheme("ssh"), "ssh://"},
		{[]string{"limit"}, p.OverSSH() || p.Bucket != "", "ssh://, ssh+btrfs://, s3:// and glacier://"},
		{[]string{"mount"}, p.Here() || p.Scheme == "dir", "directories of this machine"},
		{[]string{"checkpoint"}, p.Ours(), "btrfs directories on machines with buttersink"},
		{[]string{"again"}, scheme("shell"), "a command (shell://)"},
	} {
		if slices.Contains(f.keys, key) && !f.use {
			return fmt.Errorf("%s is only for %s, and %q is none; leave it out", key, f.where, place.Redact(p.Bare()))
		}
	}
	return nil
}

// checkSettings says what is wrong with the settings of a place together, and
// which key is to blame.
func checkSettings(url string, all []config.Setting) (string, error) {
	p, err := place.Parse(url, true)
	if err != nil {
		return "", err
	}
	o, err := settingsOf(all)
	if err != nil {
		return "", asKeys(err)
	}
	if _, err := (opening{s3: o.s3, keep: o.keep}).forS3(p); p.Scheme == "s3" && err != nil {
		return "kms-key", fmt.Errorf("%w; write sse = \"aws:kms\"", err)
	}
	if o.requireEncryption && len(o.encrypt) == 0 {
		return "require-encryption", errors.New(`require-encryption goes with encrypt, which says for whom; write encrypt = ["age:/etc/buttersink/backup.pub"]`)
	}
	return "", nil
}
