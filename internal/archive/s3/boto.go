package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/buttersink/buttersink/internal/archive/reach"
)

// botoFiles are the files in which ButterSink has looked for credentials, the
// one that counts last.
// boto.readthedocs.io/en/latest/boto_config_tut.html
func botoFiles(getenv func(string) string) []string {
	if file := getenv("BOTO_CONFIG"); file != "" {
		return []string{file}
	}
	files := []string{"/etc/boto.cfg"}
	if file := reach.InHome(getenv, ".boto"); file != "" {
		files = append(files, file)
	}
	return files
}

// botoCredentials reads credentials out of such files. That there are none is no
// error; that a file cannot be read is.
func botoCredentials(files []string) (aws.Credentials, bool, error) {
	var found aws.Credentials
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return aws.Credentials{}, false, fmt.Errorf("looking for credentials for S3: %w", err)
		}
		access, secret := parseBoto(string(text))
		if access != "" && secret != "" {
			found = aws.Credentials{AccessKeyID: access, SecretAccessKey: secret, Source: file}
		}
	}
	return found, found.HasKeys(), nil
}

// parseBoto finds the two keys in the section [Credentials] of a file.
func parseBoto(text string) (access, secret string) {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			section, _, _ = strings.Cut(line[1:], "]")
			continue
		}
		at := strings.IndexAny(line, "=:")
		if section != "Credentials" || at < 0 {
			continue
		}
		value := strings.TrimSpace(line[at+1:])
		switch strings.ToLower(strings.TrimSpace(line[:at])) {
		case "aws_access_key_id":
			access = value
		case "aws_secret_access_key":
			secret = value
		}
	}
	return access, secret
}
