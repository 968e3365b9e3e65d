package place

import (
	"maps"
	"net/url"
	"strconv"
	"strings"
)

// At is the place where an endpoint stands for S3, unless its URL says which: buckets
// of one name, at two of them, are two places.
func (p Place) At(endpoint string) Place {
	if p.Scheme != "s3" || endpoint == "" || p.Options["endpoint"] != "" {
		return p
	}
	options := maps.Clone(p.Options)
	if options == nil {
		options = map[string]string{}
	}
	options["endpoint"] = endpoint
	p.Options = options
	return p
}

// Over is the place to which ssh is led by options, KEY=VALUE as in ssh_config(5): one
// name with two ports is two machines. It is for the ID; what is reached is the place
// itself with these options, since what is configured for its name goes for it.
func (p Place) Over(options []string) Place {
	if !p.OverSSH() {
		return p
	}
	seen := map[string]bool{}
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		if key = strings.ToLower(key); seen[key] { // the first one holds
			continue
		}
		seen[key] = true
		switch {
		case key == "hostname":
			if host, ok := hostNamed(value, p.Machine.Host); ok {
				p.Machine.Host = host
			}
		case key == "port" && p.Machine.Port == 0: // that of the URL comes first
			if port, err := strconv.ParseUint(value, 10, 16); err == nil {
				p.Machine.Port = int(port)
			}
		}
	}
	return p
}

// hostNamed is the machine that HostName of ssh_config(5) names, in which %h is what was
// typed and %% is one %; ssh takes nothing else behind a %. Not ok is what names none.
func hostNamed(value, typed string) (host string, ok bool) {
	var text strings.Builder
	for {
		before, behind, more := strings.Cut(value, "%")
		text.WriteString(before)
		if !more {
			break
		}
		switch {
		case strings.HasPrefix(behind, "h"):
			text.WriteString(typed)
		case strings.HasPrefix(behind, "%"):
			text.WriteByte('%')
		default:
			return "", false
		}
		value = behind[1:]
	}
	host = text.String()
	return host, host != "" && startsHost(host[0]) && !strings.ContainsFunc(host, badInHost)
}

// ID is what a destination is called in the notes beside the snapshots: two places
// are one if it is the same. Those of directories, machines and commands are
// btrfs-backup's, and all of them name the destination again when they are typed.
func (p Place) ID() string {
	switch p.Scheme {
	case "ssh", "ssh+btrfs": // by which program over there is no part of the place
		m := p.Machine
		m.Host = strings.ToLower(m.Host)
		return "ssh://" + m.String() + p.Dir
	case "shell":
		return "shell://" + p.Command
	case "dir":
		return "dir://" + p.Dir
	case "s3":
		id := "s3://" + p.Bucket + "/" + p.Dir
		if endpoint := p.Options["endpoint"]; endpoint != "" {
			id += "?endpoint=" + url.QueryEscape(endpoint)
		}
		return id
	case "glacier":
		return "glacier://" + p.Bucket + "/" + p.Dir + p.Query
	}
	return p.Dir
}
