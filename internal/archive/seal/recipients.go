package seal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// Recipient is who can open what is sealed: the public half of a key.
type Recipient struct {
	cipher Cipher
	// name is what tells it from others: the public key, or what gpg finds it by.
	name string
	age  age.Recipient // nil unless the cipher is Age
}

// String is the recipient as ParseRecipients reads it. There is nothing secret
// in it.
func (r Recipient) String() string { return string(r.cipher) + ":" + r.name }

// Cipher is what is used for the recipient.
func (r Recipient) Cipher() Cipher { return r.cipher }

// maxKeyFile is the longest file of recipients or keys that is read, in bytes.
const maxKeyFile = 1 << 20

var (
	errMixed  = errors.New("recipients of age and of gpg cannot be mixed: one stream is encrypted with one of the two")
	errSecret = errors.New("this is a secret key, and a recipient is the public half: " +
		"age-keygen -y FILE shows it, or the .pub file of an ssh key has it")
	errNoRecipient = errors.New("this is not a recipient of age: these begin with age1, ssh-ed25519 or ssh-rsa")
)

// ParseRecipients reads whom to encrypt for, each given as "age:age1…",
// "age:ssh-ed25519 …", "age:ssh-rsa …", "age:FILE" with one of these a line, or
// "gpg:KEY" with whatever gpg finds the key by. Those given twice count once.
// Whether gpg has the key is seen by NewWriter.
func ParseRecipients(specs []string) ([]Recipient, error) {
	var all []Recipient
	seen := map[string]bool{}
	for _, spec := range specs {
		some, err := parseRecipient(spec)
		if err != nil {
			return nil, err
		}
		for _, r := range some {
			if len(all) > 0 && all[0].cipher != r.cipher {
				return nil, errMixed
			}
			if !seen[r.name] {
				seen[r.name] = true
				all = append(all, r)
			}
		}
	}
	if len(all) > 0 && all[0].cipher == Age {
		e, err := newEnvelope(all) // tells which do not go together
		if err != nil {
			return nil, err
		}
		e.clear()
	}
	return all, nil
}

func parseRecipient(spec string) ([]Recipient, error) {
	kind, who, _ := strings.Cut(spec, ":")
	who = strings.TrimSpace(who)
	switch {
	case isSecret(spec):
		return nil, errSecret
	case kind == "age" && isAge(who):
		r, err := ageRecipient(who)
		if err != nil {
			return nil, fmt.Errorf("reading recipient %q: %w", who, err)
		}
		return []Recipient{r}, nil
	case kind == "age" && who != "":
		return recipientsFile(who)
	case kind == "gpg" && who != "":
		if strings.HasPrefix(who, "-") || strings.ContainsAny(who, "\x00\n") {
			return nil, fmt.Errorf("%q is no name of a key of gpg", who)
		}
		return []Recipient{{cipher: GPG, name: who}}, nil
	}
	return nil, fmt.Errorf("recipient %q is not known: it is age:RECIPIENT, age:FILE or gpg:KEY", spec)
}

// isAge tells a recipient from the name of a file.
func isAge(s string) bool {
	return strings.HasPrefix(s, "age1") || strings.HasPrefix(s, "ssh-")
}

// isSecret tells whether somewhere in a text a secret key begins.
func isSecret(s string) bool {
	s = strings.ToUpper(s)
	return strings.Contains(s, "AGE-SECRET-KEY-") || strings.Contains(s, "AGE-PLUGIN-") ||
		strings.Contains(s, "-----BEGIN") && strings.Contains(s, "PRIVATE KEY")
}

// ageRecipient reads one recipient of age.
func ageRecipient(s string) (Recipient, error) {
	r := Recipient{cipher: Age}
	var err error
	switch {
	case isSecret(s):
		return Recipient{}, errSecret
	case strings.HasPrefix(s, "age1pq1"):
		r.name = s
		r.age, err = age.ParseHybridRecipient(s)
	case strings.HasPrefix(s, "age1") && strings.LastIndexByte(s, '1') > 3:
		return Recipient{}, errors.New("this is misspelt, or for one of the plugins of age, which are not supported")
	case strings.HasPrefix(s, "age1"):
		r.name = s
		r.age, err = age.ParseX25519Recipient(s)
	case strings.HasPrefix(s, "ssh-"):
		var key ssh.PublicKey
		if key, _, _, _, err = ssh.ParseAuthorizedKey([]byte(s)); err != nil {
			return Recipient{}, errors.New("this is not a public key of ssh")
		}
		// Without the comment, so that the same key is the same recipient.
		r.name = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
		r.age, err = agessh.ParseRecipient(r.name)
	default:
		return Recipient{}, errNoRecipient
	}
	if err != nil {
		return Recipient{}, fmt.Errorf("this is not a recipient age can use: %w", err)
	}
	return r, nil
}

// recipientsFile reads a file with a recipient a line.
func recipientsFile(name string) ([]Recipient, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the recipients: %w", err)
	}
	defer f.Close()
	all, err := readRecipients(f)
	if err != nil {
		return nil, fmt.Errorf("reading the recipients in %s: %w", name, err)
	}
	return all, nil
}

func readRecipients(src io.Reader) ([]Recipient, error) {
	var all []Recipient
	limited := &io.LimitedReader{R: src, N: maxKeyFile + 1}
	lines := bufio.NewScanner(limited)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := ageRecipient(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, r)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("there is more than %d bytes of it", maxKeyFile)
	}
	if len(all) == 0 {
		return nil, errors.New("there are none")
	}
	return all, nil
}
