package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

func TestParseRecipients(t *testing.T) {
	a := must(age.GenerateX25519Identity()).Recipient().String()
	b := must(age.GenerateX25519Identity()).Recipient().String()
	line, _ := ed25519Pair(t)
	bare := strings.TrimSuffix(line, " a comment")
	file := filepath.Join(t.TempDir(), "who")
	if err := os.WriteFile(file, []byte("# us\n\n"+b+"\r\n  "+line+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		specs []string
		names []string
	}{
		{nil, nil},
		{[]string{"age:" + a}, []string{"age:" + a}},
		{[]string{"age: " + a + " "}, []string{"age:" + a}},
		{[]string{"age:" + line, "age:" + bare}, []string{"age:" + bare}},
		{[]string{"age:" + a, "age:" + file, "age:" + b}, []string{"age:" + a, "age:" + b, "age:" + bare}},
		{[]string{"gpg:a@example.org", "gpg:0xABCD"}, []string{"gpg:a@example.org", "gpg:0xABCD"}},
	} {
		to, err := ParseRecipients(want.specs)
		if err != nil {
			t.Errorf("%q: %v", want.specs, err)
		}
		var names []string
		for _, r := range to {
			names = append(names, r.String())
		}
		if d := cmp.Diff(want.names, names); d != "" {
			t.Errorf("%q: %s", want.specs, d)
		}
	}
}

func TestParseRecipientsRefuses(t *testing.T) {
	id := must(age.GenerateX25519Identity())
	a := id.Recipient().String()
	_, sshText := ed25519Pair(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "age:" + name
	}
	for _, want := range []struct {
		specs []string
		words string
	}{
		{[]string{""}, "is not known"},
		{[]string{a}, "is not known"},
		{[]string{"age:"}, "is not known"},
		{[]string{"gpg:"}, "is not known"},
		{[]string{"pgp:a"}, "is not known"},
		{[]string{"gpg:--output=/etc/passwd"}, "no name of a key"},
		{[]string{"gpg:a\nb"}, "no name of a key"},
		{[]string{"age:" + a, "gpg:b"}, "cannot be mixed"},
		{[]string{"age:" + a[:30]}, "age can"},
		{[]string{"age:" + a + "x"}, "age"},
		{[]string{"age:age1yubikey1qgqpqrvzxrc0n3eq5kxrgsahd8j9l3cx43ddm5wqwqp5ja6xnzq"}, "plugins"},
		{[]string{"age:ssh-ed25519 nonsense"}, "not a public key of ssh"},
		{[]string{"age:ssh-dss AAAAB3NzaC1kc3M="}, "ssh"},
		{[]string{"age:" + dir + "/nothing"}, "no such file"},
		{[]string{"age:" + dir}, "is a directory"},
		{[]string{file("empty", "# nobody\n")}, "there are none"},
		{[]string{file("junk", a+"\njunk\n")}, "line 2: this is not a recipient"},
		{[]string{file("long", strings.Repeat("# a comment\n", 100_000))}, "more than"},
		{[]string{"age:" + id.String()}, "secret key"},
		{[]string{id.String()}, "secret key"},
		{[]string{"age:" + strings.ToLower(id.String())}, "secret key"},
		{[]string{file("secret", "# created\n"+id.String()+"\n")}, "line 2: this is a secret key"},
		{[]string{file("ssh", string(sshText))}, "line 1: this is a secret key"},
		{[]string{"age:" + string(sshText)}, "secret key"},
	} {
		_, err := ParseRecipients(want.specs)
		if err == nil || !strings.Contains(err.Error(), want.words) {
			t.Errorf("%q: %v, want %q", want.specs, err, want.words)
			continue
		}
		quotes(t, err, id.String(), string(sshText))
	}
}

// quotes fails if an error holds any line of secrets.
func quotes(t *testing.T, err error, secrets ...string) {
	t.Helper()
	text := strings.ToUpper(fmt.Sprintf("%v %+v %#v", err, err, err))
	for _, secret := range secrets {
		for line := range strings.Lines(secret) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "-----") || len(line) < 10 {
				continue
			}
			if strings.Contains(text, strings.ToUpper(line[:min(20, len(line))])) {
				t.Errorf("the error tells a secret: %v", err)
			}
		}
	}
}

func TestLoadKeysRefuses(t *testing.T) {
	id := must(age.GenerateX25519Identity())
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	locked := pem.EncodeToMemory(must(ssh.MarshalPrivateKeyWithPassphrase(secret, "", []byte("geheim"))))
	dir := t.TempDir()
	for _, want := range []struct {
		name, text string
		mode       os.FileMode
		words      string
	}{
		{"group", id.String(), 0o640, "chmod 600 " + dir + "/group"},
		{"others", id.String(), 0o604, "chmod 600"},
		{"written", id.String(), 0o620, "chmod 600"},
		{"empty", "", 0o600, "there is none"},
		{"comment", "# nothing\n", 0o600, "there is none"},
		{"junk", "hello " + id.String(), 0o600, "line 1: this is not a secret key"},
		{"damaged", "# a\n" + id.String()[:50], 0o600, "line 2: this secret key of age is damaged"},
		{"changed", id.String()[:20] + "B" + id.String()[21:], 0o600, "damaged"},
		{"public", id.Recipient().String(), 0o600, "public key"},
		{"plugin", "AGE-PLUGIN-YUBIKEY-1QQQQQQQQ", 0o600, "plugins"},
		{"passphrase", "age-encryption.org/v1\n-> scrypt x 18\n", 0o600, "protected by a passphrase"},
		{"armored", "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n", 0o600, "protected by a passphrase"},
		{"ssh locked", string(locked), 0o600, "protected by a passphrase"},
		{"ssh damaged", string(locked[:80]), 0o600, "not a secret key of ssh"},
		{"pgp", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", 0o600, "gpg --import"},
		{"long", strings.Repeat("#\n", maxKeyFile), 0o600, "too long"},
	} {
		file := filepath.Join(dir, want.name)
		if err := os.WriteFile(file, []byte(want.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, want.mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKeys([]string{file})
		if err == nil || !strings.Contains(err.Error(), want.words) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want %q", want.name, err, want.words)
			continue
		}
		quotes(t, err, id.String(), string(locked))
	}
	for _, name := range []string{dir, dir + "/not there"} {
		if _, err := LoadKeys([]string{name}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLoadKeys: files with comments and several keys, native and of ssh.
func TestLoadKeys(t *testing.T) {
	a, b := must(age.GenerateX25519Identity()), must(age.GenerateX25519Identity())
	line, text := ed25519Pair(t)
	keys, err := LoadKeys([]string{keyFile(t, []byte("# created\n\n"+a.String()+"\r\n"+b.String()+"\n")), keyFile(t, append([]byte("\n"), text...))})
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{"age:" + a.Recipient().String(), "age:" + b.Recipient().String(), "age:" + line} {
		to, err := ParseRecipients([]string{spec})
		if err != nil {
			t.Fatal(err)
		}
		sealedTo := sealed(t, Options{Recipients: to}, nil, []byte("abc"))
		if got, err := opened(strings.NewReader(string(sealedTo)), Form{Cipher: Age}, keys); err != nil || string(got) != "abc" {
			t.Errorf("%s: %q, %v", spec, got, err)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", keys, keys, keys); strings.Contains(text, a.String()) {
		t.Error("printing the keys tells them")
	}
}
