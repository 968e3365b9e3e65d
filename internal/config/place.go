package config

import (
	"path"
	"strings"
)

// SourceName is what "{source}" stands for: the path with dashes in place of
// slashes, and "root" for the root directory.
func SourceName(source string) string {
	if _, rest, ok := strings.Cut(source, "://"); ok {
		_, dir, _ := strings.Cut(rest, "/")
		source = "/" + dir
	}
	name := strings.ReplaceAll(strings.Trim(path.Clean("/"+source), "/"), "/", "-")
	if name == "" {
		return "root"
	}
	return name
}

// Join is the URL of a path below that of a store; a query stays at its end.
func Join(url, below string) string {
	if below == "" {
		return url
	}
	query := ""
	if i := queryAt(url); i >= 0 {
		url, query = url[:i], url[i:]
	}
	return strings.TrimSuffix(url, "/") + "/" + strings.TrimLeft(below, "/") + query
}

// queryAt is where the query of a URL begins; -1 if it has none. A question mark
// may be a part of a path, and of S3's too unless each piece behind the last one
// is KEY=VALUE.
func queryAt(url string) int {
	if !strings.HasPrefix(url, "s3://") && !strings.HasPrefix(url, "glacier://") {
		return -1
	}
	i := strings.LastIndexByte(url, '?')
	if i < 0 {
		return -1
	}
	for piece := range strings.SplitSeq(url[i+1:], "&") {
		if key, _, ok := strings.Cut(piece, "="); !ok || key == "" || strings.Contains(key, "/") {
			return -1
		}
	}
	return i
}
