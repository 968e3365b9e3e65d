package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// Keys open what is sealed. The zero value opens what is not encrypted, and with
// gpg what gpg has the keys for.
type Keys struct {
	age []age.Identity
}

// NoKeyError says that there is no key that opens something.
type NoKeyError struct {
	Form Form
	// Given is set if there were keys, but none that fits, or, with gpg, one that is
	// locked.
	Given bool
	Err   error // more about it; may be nil
}

func (e *NoKeyError) Error() string {
	switch {
	case e.Form.Cipher == GPG && e.Given:
		return "the gpg key that opens it is locked by a passphrase that gpg-agent does not know: unlock it there first (gpg --sign FILE asks for it)"
	case e.Form.Cipher == GPG:
		return "gpg has no secret key that opens it: put the key into its keyring (gpg --import FILE)"
	case e.Given:
		return "it is encrypted with age, and none of the given keys opens it: give the one that does with --identity FILE"
	}
	return "it is encrypted with age, and there is no key for it: give one with --identity FILE"
}

func (e *NoKeyError) Unwrap() error { return e.Err }

// LoadKeys reads files with secret keys: those of age-keygen, and those of ssh
// that have no passphrase. It refuses files that anyone but the owner can read.
// Its errors never hold what is in them.
func LoadKeys(files []string) (Keys, error) {
	var k Keys
	for _, name := range files {
		ids, err := loadKey(name)
		if err != nil {
			return Keys{}, err
		}
		k.age = append(k.age, ids...)
	}
	return k, nil
}

func loadKey(name string) ([]age.Identity, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("reading the key in %s: it is a directory", name)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the key in %s can be reached by others than its owner (mode %04o): chmod 600 %s, and if others may have read it, use a new key", name, mode, name)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	defer func() { clear(b) }()
	if err != nil {
		return nil, fmt.Errorf("reading the key in %s: %w", name, err)
	}
	ids, err := parseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("reading the key in %s: %w", name, err)
	}
	return ids, nil
}

// parseKeys reads what is in a file of keys.
func parseKeys(b []byte) ([]age.Identity, error) {
	if len(b) > maxKeyFile {
		return nil, errors.New("this is too long for a key")
	}
	text := bytes.TrimSpace(b)
	switch {
	case bytes.HasPrefix(text, []byte("age-encryption.org/")), bytes.HasPrefix(text, []byte("-----BEGIN AGE ENCRYPTED FILE-----")):
		return nil, errors.New("the key is protected by a passphrase: age -d FILE > NEW gives one without, to be kept where only its owner can read it")
	case bytes.HasPrefix(text, []byte("-----BEGIN PGP")):
		return nil, errors.New("this is a key of gpg, which keeps its keys itself: gpg --import FILE, and no --identity")
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		return sshKey(text)
	}
	var ids []age.Identity
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, err := ageKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, errors.New("there is none")
	}
	return ids, nil
}

// ageKey reads a secret key of age. What the library says of a wrong one stays
// unsaid, as it may quote it.
func ageKey(line string) (age.Identity, error) {
	var id age.Identity
	var err error
	switch {
	case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
		id, err = age.ParseHybridIdentity(line)
	case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
		id, err = age.ParseX25519Identity(line)
	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		return nil, errors.New("plugins of age are not supported")
	case isAge(line):
		return nil, errors.New("this is a public key, and opening takes the secret one")
	default:
		return nil, errors.New("this is not a secret key of age or ssh")
	}
	if err != nil {
		return nil, errors.New("this secret key of age is damaged")
	}
	return id, nil
}

// sshKey reads a secret key of ssh.
func sshKey(text []byte) ([]age.Identity, error) {
	id, err := agessh.ParseIdentity(text)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return nil, errors.New("the key of ssh is protected by a passphrase: make a key for this purpose, with age-keygen")
	}
	if err != nil {
		return nil, errors.New("this is not a secret key of ssh that age can use: those are ed25519 and rsa")
	}
	return []age.Identity{id}, nil
}
