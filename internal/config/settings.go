package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// setting is a flag of "buttersink backup" that a configuration may have as a key.
type setting struct {
	key  string
	form form // aText, aNumber, aSwitch, or aList of texts
	// source is set for what is about a source, and store for what is about a place
	// that snapshots are brought to.
	source, store bool
	example       string
}

// settings are all that there are. There is a flag of each name, which knows what
// the values may be.
var settings = []setting{
	{"ssh-command", aText, true, true, `"ssh -F /etc/buttersink/ssh_config"`},
	{"ssh-opt", aList, true, true, `["IdentityFile=/etc/buttersink/key"]`},
	{"ssh-program", aText, true, true, `"/usr/local/bin/buttersink"`},
	{"ssh-sudo", aText, true, true, `"always"`},
	{"wire-compression", aText, true, true, `"never"`},
	{"limit", aText, true, true, `"20MiB/s"`},
	{"kernel-send", aSwitch, true, false, "true"},
	{"decompress", aSwitch, true, false, "true"},
	{"estimate", aSwitch, true, false, "true"},
	{"compress", aText, false, true, `"zstd"`},
	{"encrypt", aList, false, true, `["age:/etc/buttersink/backup.pub"]`},
	{"require-encryption", aSwitch, false, true, "true"},
	{"identity", aList, false, true, `["/etc/buttersink/backup.key"]`},
	{"max-chain", aNumber, false, true, "30"},
	{"max-full", aText, false, true, `"500GiB"`},
	{"max-restore", aText, false, true, `"500GiB"`},
	{"part-size", aNumber, false, true, "100"},
	{"parallel", aNumber, false, true, "4"},
	{"checkpoint", aText, false, true, `"1GiB"`},
	{"mount", aText, false, true, `"/mnt/usb"`},
	{"storage-class", aText, false, true, `"STANDARD_IA"`},
	{"sse", aText, false, true, `"aws:kms"`},
	{"kms-key", aText, false, true, `"KEY"`},
	{"s3-endpoint", aText, false, true, `"https://s3.example.org"`},
	{"s3-path-style", aSwitch, false, true, "true"},
	{"again", aSwitch, false, true, "true"},
}

// Settings are the keys that are flags of "buttersink backup".
func Settings() []string {
	var all []string
	for _, s := range settings {
		all = append(all, s.key)
	}
	return all
}

func exampleOf(key string) string {
	return settings[slices.IndexFunc(settings, func(s setting) bool { return s.key == key })].example
}

// placed is a setting with the value that it came from.
type placed struct {
	Setting
	value *value
}

// settings are the fields for settings of a source or of a store, which collect
// what they read.
func (r *decoder) settings(all *[]placed, source bool) []field {
	var known []field
	for _, s := range settings {
		if source && s.source || !source && s.store {
			known = append(known, field{s.key, func(v *value) {
				if values, ok := r.setting(s, v); ok {
					*all = append(*all, placed{Setting{s.key, values, r.position(v.start)}, v})
				}
			}})
		}
	}
	return known
}

// setting reads a value as a flag takes it.
func (r *decoder) setting(s setting, v *value) ([]string, bool) {
	if !r.is(v, s.form, s.example) {
		return nil, false
	}
	switch s.form {
	case aNumber:
		n := 0
		r.number(&n, map[string]int{"part-size": 1}[s.key], unlimited)(v)
		if int64(n) != v.number {
			return nil, false
		}
		return []string{strconv.FormatInt(v.number, 10)}, true
	case aSwitch:
		return []string{v.text}, true
	case aText:
		text := ""
		r.text(&text, strings.Trim(s.example, `"`))(v)
		return []string{text}, text != ""
	}
	var texts []string
	before := len(r.found)
	r.texts(&texts, strings.Trim(s.example, `"[]`), nil)(v)
	return texts, len(r.found) == before
}

// checked leaves away the settings that a store of a URL cannot have, and says why.
// Those stay that only the machine is not ready for: without one that says for whom to
// encrypt, say, what is stored would be plain.
func (r *decoder) checked(url string, all []placed) []placed {
	if r.checks.Setting == nil {
		return all
	}
	return slices.DeleteFunc(all, func(p placed) bool {
		err := r.checks.Setting(sample(url), p.Key, p.Values)
		if err == nil {
			return false
		}
		message, fix := r.advised(p.value.span, err, fmt.Sprintf("Write %s = %s, say.", p.Key, exampleOf(p.Key)))
		if _, state := errors.AsType[*StateError](err); state {
			r.trouble(Trouble{Key: p.Key}, p.value.span, message, fix)
			return false
		}
		r.wrong(p.value.span, message, fix)
		return true
	})
}

// together says what is wrong with settings that do not fit to each other. What
// it is about has the position, if it is among the given ones.
func (r *decoder) together(at span, url string, all []Setting, own []placed) {
	if r.checks.Settings == nil {
		return
	}
	key, err := r.checks.Settings(sample(url), all)
	if err == nil {
		return
	}
	for _, p := range own {
		if p.Key == key {
			at = p.value.span
		}
	}
	r.taken(at, err, "")
}

func bare(all []placed) []Setting {
	var some []Setting
	for _, p := range all {
		some = append(some, p.Setting)
	}
	return some
}

// merged are the settings of a store, with others in their place.
func merged(store, own []Setting) []Setting {
	all := slices.Clone(store)
	for _, s := range own {
		if i := slices.IndexFunc(all, func(o Setting) bool { return o.Key == s.Key }); i >= 0 {
			all[i] = s
		} else {
			all = append(all, s)
		}
	}
	return all
}

// belongs says where a key has its place that is none of a table.
func belongs(key string) string {
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key == key })
	switch {
	case i < 0:
		return inOtherWords(key)
	case !settings[i].source:
		return fmt.Sprintf("%q is about a destination: write it in [stores.NAME] or [[jobs.NAME.destinations]].", key)
	case !settings[i].store:
		return fmt.Sprintf("%q is about a source: write it in [jobs.NAME].", key)
	}
	return ""
}

// inOtherWords says how what a key of other programs, or a flag of ours, is about is
// written here; nothing if that is not known.
func inOtherWords(key string) string {
	switch strings.ReplaceAll(strings.ToLower(key), "_", "-") {
	case "source-keep", "num-snapshots", "dest-keep", "num-backups", "retention",
		"keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly":
		return `Write keep = "last:3,daily:7", say: in [jobs.NAME] for the source, in [[jobs.NAME.destinations]] for what is there.`
	case "ssh-key", "ssh-identity", "identity-file", "identityfile":
		return `Write ssh-opt = ["IdentityFile=/path/of/the/key"].`
	case "access-key", "access-key-id", "aws-access-key-id", "secret-key", "secret-access-key", "aws-secret-access-key":
		return "Credentials are looked for where all programs for AWS do: in the environment, and in ~/.aws/credentials."
	case "destinations", "destination":
		return "Write [[jobs.NAME.destinations]]."
	}
	return ""
}
