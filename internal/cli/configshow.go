package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/place"
)

// shown is a key with its value: text, true or false, a number, a list of one of
// them, or of lists of texts.
type shown struct {
	key   string
	value any
}

// showConfig writes a configuration as TOML.
func showConfig(f *config.File) string {
	var b strings.Builder
	put := func(header string, all []shown) {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(header + "\n")
		for _, s := range all {
			fmt.Fprintf(&b, "%s = %s\n", s.key, tomlValue(s.value))
		}
	}
	for _, s := range f.Stores {
		put("[stores."+tomlKey(s.Name)+"]", shownStore(&s))
	}
	for _, j := range f.Jobs {
		put("[jobs."+tomlKey(j.Name)+"]", shownJob(&j))
		for _, d := range j.Destinations {
			put("[[jobs."+tomlKey(j.Name)+".destinations]] # "+printable(place.Redact(d.Name)), shownDestination(&j, &d))
		}
	}
	for _, n := range f.Notices {
		put("[notify."+tomlKey(n.Name)+"]", shownNotice(&n))
	}
	if f.Textfile != "" {
		put("[metrics]", []shown{{"textfile", f.Textfile}})
	}
	return b.String()
}

// showConfigRecords writes a configuration as JSON.
func showConfigRecords(w io.Writer, f *config.File) error {
	out := newRecords(w)
	object := func(all []shown) map[string]any {
		m := map[string]any{}
		for _, s := range all {
			m[s.key] = s.value
		}
		return m
	}
	for _, s := range f.Stores {
		out.about("store", s.Name).put(object(shownStore(&s)))
	}
	for _, j := range f.Jobs {
		m := object(shownJob(&j))
		places := []map[string]any{}
		for _, d := range j.Destinations {
			one := object(shownDestination(&j, &d))
			one["name"] = place.Redact(d.Name)
			places = append(places, one)
		}
		m["destinations"] = places
		out.about("job", j.Name).put(m)
	}
	for _, n := range f.Notices {
		out.about("notice", n.Name).put(object(shownNotice(&n)))
	}
	if f.Textfile != "" {
		out.put(map[string]any{"metrics": object([]shown{{"textfile", f.Textfile}})})
	}
	return out.err
}

func shownStore(s *config.Store) []shown {
	return append([]shown{{"url", place.Redact(s.URL)}}, shownSettings(s.Settings)...)
}

func shownJob(j *config.Job) []shown {
	all := []shown{{"kind", string(j.Kind)}, {"sources", redacted(j.Sources)}}
	if j.Kind == config.Backup {
		all = append(all, shown{"nested", j.Nested})
	}
	if len(j.Exclude) > 0 {
		all = append(all, shown{"exclude", j.Exclude})
	}
	all = append(all, shown{"snapshots", j.Snapshots})
	if j.Kind == config.Calendar {
		all = append(all, shown{"days", j.Days}, shown{"chain", j.Chain}, shown{"lifetime", j.Lifetime},
			shown{"snapshots-max-age", config.FormatSpan(j.SnapshotsMaxAge)})
	} else {
		all = append(all, shown{"prefix", j.Prefix}, shown{"format", string(j.Format)}, shown{"utc", j.UTC},
			shown{"snapshot", j.Snapshot}, shown{"only-if-changed", j.OnlyIfChanged}, shown{"keep", j.Keep.String()})
	}
	for _, t := range []struct {
		key   string
		value time.Duration
	}{{"every", j.Every}, {"max-age", j.MaxAge}, {"stale-after", j.StaleAfter}} {
		if t.value > 0 {
			all = append(all, shown{t.key, config.FormatSpan(t.value)})
		}
	}
	for _, h := range []struct {
		key      string
		programs [][]string
	}{{"before", j.Before}, {"after-snapshot", j.AfterSnapshot}, {"after", j.After}, {"on-failure", j.OnFailure}} {
		if len(h.programs) == 0 {
			continue
		}
		var some [][]string
		for _, argv := range h.programs {
			some = append(some, redacted(argv))
		}
		all = append(all, shown{h.key, some})
	}
	all = append(all, shown{"hook-timeout", config.FormatSpan(j.HookTimeout)}, shown{"notify", listOf(j.Notify)})
	return append(all, shownSettings(j.Settings)...)
}

func shownDestination(j *config.Job, d *config.Destination) []shown {
	all := []shown{{"url", place.Redact(d.URL)}}
	if j.Kind == config.Backup && !strings.HasPrefix(d.URL, "shell://") {
		all = append(all, shown{"keep", d.Keep.String()})
	}
	settings := slices.DeleteFunc(slices.Clone(d.Settings), func(s config.Setting) bool { return s.Key == "identity" })
	return append(all, shownSettings(usualSettings(j, d.URL, settings))...)
}

// usualSettings adds to the settings of a destination those that hold where
// nothing is said, as far as they change what is stored there, and how.
func usualSettings(j *config.Job, url string, all []config.Setting) []config.Setting {
	p, err := place.Parse(url, true)
	if err != nil {
		return all
	}
	for _, usual := range []struct {
		key   string
		holds bool
	}{
		{"max-chain", p.KeepsStreams() && j.Kind == config.Backup},
		{"part-size", p.Archive()},
	} {
		f := settingFlags(&syncOptions{}).Flags().Lookup(usual.key)
		given := slices.ContainsFunc(all, func(s config.Setting) bool { return s.Key == usual.key })
		if usual.holds && !given {
			all = append(all, config.Setting{Key: usual.key, Values: []string{f.DefValue}})
		}
	}
	return all
}

func shownNotice(n *config.Notice) []shown {
	var all []shown
	switch {
	case n.Ping != "":
		all = append(all, shown{"ping", pageText(n.Ping)})
	case len(n.Mail) > 0:
		all = append(all, shown{"mail", n.Mail}, shown{"sendmail", redacted(n.Sendmail)})
	default:
		all = append(all, shown{"command", redacted(n.Command)})
	}
	return append(all, shown{"on", listOf(n.On)}, shown{"timeout", config.FormatSpan(n.Timeout)})
}

// pageText is the URL of a page without what may be secret: everything behind the
// host.
func pageText(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	host, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		host = "***" + host[i:]
	}
	if path == "" {
		return scheme + "://" + host + "/"
	}
	return scheme + "://" + host + "/***"
}

// shownSettings are settings in the forms in which they are written.
func shownSettings(settings []config.Setting) []shown {
	var all []shown
	flags := settingFlags(&syncOptions{}).Flags()
	for _, s := range settings {
		var value any = redacted(s.Values)
		switch kind := flags.Lookup(s.Key).Value.Type(); {
		case kind == "stringArray":
		case kind == "bool":
			value = s.Values[0] == "true"
		case kind == "int":
			n, err := strconv.Atoi(s.Values[0])
			if err == nil {
				value = n
			}
		default:
			value = place.Redact(s.Values[0])
		}
		all = append(all, shown{s.Key, value})
	}
	return all
}

// redacted are texts without secrets.
func redacted(texts []string) []string {
	all := []string{}
	for _, t := range texts {
		all = append(all, place.Redact(t))
	}
	return all
}

// listOf is a list that is there, if empty.
func listOf(texts []string) []string { return append([]string{}, texts...) }

// tomlKey writes a name as a part of a key.
func tomlKey(name string) string {
	if strings.Contains(name, ".") {
		return tomlText(name)
	}
	return name
}

// tomlValue writes a value as TOML has it, https://toml.io/en/v1.0.0.
func tomlValue(v any) string {
	var parts []string
	switch v := v.(type) {
	case string:
		return tomlText(v)
	case []string:
		for _, one := range v {
			parts = append(parts, tomlText(one))
		}
	case []int:
		for _, one := range v {
			parts = append(parts, strconv.Itoa(one))
		}
	case [][]string:
		for _, one := range v {
			parts = append(parts, tomlValue(one))
		}
	default: // true, false, a number
		return fmt.Sprint(v)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// tomlText writes a text in quotes, so that it does nothing to a terminal.
func tomlText(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case strconv.IsPrint(c):
			b.WriteRune(c)
		case c > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, c)
		default:
			fmt.Fprintf(&b, `\u%04X`, c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
