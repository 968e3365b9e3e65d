package glacier

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// keyFile reads credentials out of a file with two lines, the access key and the
// secret: as they are, or as AWS once gave them to download,
// AWSAccessKeyId=KEY and AWSSecretKey=SECRET. That there is no file is no error.
func keyFile(file string) (aws.Credentials, bool, error) {
	const largest = 64 << 10
	if file == "" {
		return aws.Credentials{}, false, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return aws.Credentials{}, false, nil
	}
	if err != nil {
		return aws.Credentials{}, false, fmt.Errorf("looking for credentials for Glacier: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, largest))
	if err != nil {
		return aws.Credentials{}, false, fmt.Errorf("looking for credentials for Glacier: %w", err)
	}
	access, secret, ok := parseKeys(string(text))
	if !ok {
		return aws.Credentials{}, false, fmt.Errorf("looking for credentials for Glacier: %s has to have two lines, the access key and the secret", file)
	}
	return aws.Credentials{AccessKeyID: access, SecretAccessKey: secret, Source: file}, true, nil
}

// parseKeys finds the two keys in such a text.
func parseKeys(text string) (access, secret string, ok bool) {
	var bare []string
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		line = strings.TrimSpace(line)
		name, value, named := strings.Cut(line, "=")
		switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
		case "AWSAccessKeyId":
			if named {
				access = value
				continue
			}
		case "AWSSecretKey":
			if named {
				secret = value
				continue
			}
		}
		// A secret may have = in it.
		if line != "" && line[0] != '#' {
			bare = append(bare, line)
		}
	}
	if access == "" && secret == "" && len(bare) == 2 {
		access, secret = bare[0], bare[1]
	}
	return access, secret, access != "" && secret != ""
}
