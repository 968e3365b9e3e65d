package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// keyring makes a home of gpg and has the test use it. Its agent goes with it.
func keyring(t *testing.T) {
	t.Helper()
	need(t, "gpg")
	// Not t.TempDir: the names of an agent's sockets have to be short.
	dir, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", dir)
	t.Cleanup(func() {
		t.Setenv("GNUPGHOME", dir)
		if out, err := exec.Command("gpgconf", "--kill", "all").CombinedOutput(); err != nil {
			t.Errorf("ending the agent of gpg: %v: %s", err, out)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
}

// newKey makes a key in the keyring.
func newKey(t *testing.T, name, passphrase string, more ...string) {
	t.Helper()
	args := append([]string{"--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", passphrase}, more...)
	expires := "never"
	if len(more) > 0 {
		expires = "1d"
	}
	run(t, nil, "gpg", append(args, "--quick-gen-key", name, "future-default", "default", expires)...)
}

func gpgTo(t *testing.T, names ...string) []Recipient {
	t.Helper()
	var specs []string
	for _, name := range names {
		specs = append(specs, "gpg:"+name)
	}
	to, err := ParseRecipients(specs)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// noProcesses fails if there are still goroutines or children of this test when
// it ends.
func noProcesses(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, ignore)
		files, err := filepath.Glob("/proc/self/task/*/children")
		if err != nil {
			t.Error(err)
		}
		for _, file := range files {
			if b, err := os.ReadFile(file); err == nil && len(bytes.TrimSpace(b)) > 0 {
				t.Errorf("there are still the processes %s", b)
			}
		}
	})
}

func TestGPG(t *testing.T) {
	keyring(t)
	noProcesses(t)
	newKey(t, "a <a@example.org>", "")
	newKey(t, "b <b@example.org>", "")
	// What users like to have there does not matter.
	if err := os.WriteFile(filepath.Join(os.Getenv("GNUPGHOME"), "gpg.conf"), []byte("armor\nverbose\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := gpgTo(t, "a@example.org", "b@example.org")
	for _, o := range []Options{{Recipients: to}, {Recipients: to, Compress: true}} {
		for _, n := range []int{0, 1, 8192, 1_000_000, 5<<20 + 1} {
			data := content(n, 6)
			w, err := NewWriter(t.Context(), io.Discard, o, nil)
			if err != nil {
				t.Fatal(err)
			}
			if w.Repeatable() || w.Secret() != nil {
				t.Error("it says that it can be repeated")
			}
			w.Abort()
			b := sealed(t, o, nil, data, 100_000, 1, 70_000)
			if bound := Bound(o, int64(n)); int64(len(b)) > bound {
				t.Errorf("%d bytes became %d, and the bound is %d", n, len(b), bound)
			}
			got := run(t, b, "gpg", "--batch", "--quiet", "--decrypt")
			if o.Compress {
				got = run(t, got, "zstd", "-d", "-q", "-c")
			}
			if !bytes.Equal(got, data) {
				t.Errorf("gpg makes %d bytes of %d", len(got), n)
			}
			if got, err := opened(bytes.NewReader(b), o.Form(), Keys{}); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes become %d, %v", n, len(got), err)
			}
		}
	}
	if _, err := NewWriter(t.Context(), io.Discard, Options{Recipients: to}, []byte("secret")); !errors.Is(err, ErrSecret) {
		t.Errorf("a secret: %v", err)
	}
}

// TestGPGDamage: nothing that is wrong with a message goes unnoticed.
func TestGPGDamage(t *testing.T) {
	keyring(t)
	noProcesses(t)
	newKey(t, "a <a@example.org>", "")
	o := Options{Recipients: gpgTo(t, "a@example.org")}
	form := o.Form()
	data := content(100_000, 6)
	b := sealed(t, o, nil, data)
	r := rand.New(rand.NewPCG(3, 3))
	for range 25 {
		at, bit := r.IntN(len(b)), byte(1)<<r.IntN(8)
		b[at] ^= bit
		if !found(b, form, Keys{}) {
			t.Errorf("a wrong bit at %d of %d is not found", at, len(b))
		}
		b[at] ^= bit
	}
	for _, n := range []int{0, 1, 50, len(b) / 2, len(b) - 1} {
		if !found(b[:n], form, Keys{}) {
			t.Errorf("%d of %d bytes pass for all", n, len(b))
		}
	}
	for name, bad := range map[string][]byte{
		"a byte more":   append(bytes.Clone(b), 0),
		"twice":         append(bytes.Clone(b), b...),
		"more":          append(bytes.Clone(b), make([]byte, 200_000)...),
		"not encrypted": run(t, data, "gpg", "--batch", "--store"),
		"no message":    data,
	} {
		if _, err := opened(bytes.NewReader(bad), form, Keys{}); !isDamage(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cut := errors.New("connection cut")
	for _, n := range []int{0, 10, len(b) / 2, len(b)} {
		if _, err := opened(io.MultiReader(bytes.NewReader(b[:n]), &broken{cut}), form, Keys{}); !errors.Is(err, cut) || isDamage(err) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

// TestGPGKeys: what is wrong with a key is said, and before anything is put out.
func TestGPGKeys(t *testing.T) {
	keyring(t)
	noProcesses(t)
	newKey(t, "good <good@example.org>", "")
	newKey(t, "locked <locked@example.org>", "geheim")
	newKey(t, "old <old@example.org>", "", "--faked-system-time", "20200101T000000")
	b := sealed(t, Options{Recipients: gpgTo(t, "good@example.org")}, nil, []byte("abc"))
	locked := sealed(t, Options{Recipients: gpgTo(t, "locked@example.org"), Compress: true}, nil, []byte("abc"))
	refused := func(name, words string) {
		t.Helper()
		var out bytes.Buffer
		o := Options{Recipients: gpgTo(t, name)}
		_, err := NewWriter(t.Context(), &out, o, nil)
		if known := o.Usable(t.Context()); known == nil || err != nil && known.Error() != err.Error() {
			t.Errorf("%s: it is known before: %v; then it is %v", name, known, err)
		}
		if err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), name) || out.Len() > 0 {
			t.Errorf("%s: %v, after %d bytes, want %q", name, err, out.Len(), words)
		}
	}
	refused("nobody@example.org", "gpg --import")
	refused("old@example.org", "has expired")

	run(t, nil, "gpg-connect-agent", "reloadagent", "/bye") // forgets the passphrase
	_, err := opened(bytes.NewReader(locked), Form{Compressed: true, Cipher: GPG}, Keys{})
	var none *NoKeyError
	if !errors.As(err, &none) || !strings.Contains(err.Error(), "locked by a passphrase") || !none.Form.Compressed {
		t.Errorf("locked: %v", err)
	}

	// To someone who has only the public half.
	public := run(t, nil, "gpg", "--batch", "--export", "good@example.org")
	keyring(t)
	run(t, public, "gpg", "--batch", "--quiet", "--import")
	refused("good@example.org", "does not trust")
	_, err = opened(bytes.NewReader(b), Form{Cipher: GPG}, Keys{})
	if !errors.As(err, &none) || none.Given || !strings.Contains(err.Error(), "gpg --import") {
		t.Errorf("without the secret key: %v", err)
	}
}

// fake puts a script in the place of gpg. Where it is tried out with a key, it
// works.
func fake(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "gpg"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestGPGEnds: a gpg that hangs, dies, or is missing ends in an error, and leaves
// nothing behind.
func TestGPGEnds(t *testing.T) {
	noProcesses(t)
	o := Options{Recipients: gpgTo(t, "a@example.org")}
	data := content(3<<20, 1)
	cause := errors.New("had enough")
	const tried = `if [ ! -e "$0.tried" ]; then touch "$0.tried"; cat >/dev/null; echo made; exit 0; fi; `

	t.Run("hangs", func(t *testing.T) {
		fake(t, tried+"exec sleep 1000")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(200*time.Millisecond, func() { cancel(cause) })
		if _, err := trySeal(ctx, o, nil, data); !errors.Is(err, cause) {
			t.Error(err)
		}
	})
	t.Run("hangs when tried", func(t *testing.T) {
		fake(t, "exec sleep 1000")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(200*time.Millisecond, func() { cancel(cause) })
		if _, err := NewWriter(ctx, io.Discard, o, nil); !errors.Is(err, cause) {
			t.Error(err)
		}
	})
	t.Run("aborted", func(t *testing.T) {
		fake(t, tried+"exec sleep 1000")
		w, err := NewWriter(t.Context(), io.Discard, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 10)); err != nil {
			t.Error(err)
		}
		w.Abort()
	})
	t.Run("dies", func(t *testing.T) {
		fake(t, tried+"head -c 1000; head -c 100000 /dev/zero | tr '\\0' x >&2; echo 'gpg: the end' >&2; exit 3")
		_, err := trySeal(t.Context(), o, nil, data)
		if err == nil || !strings.HasSuffix(err.Error(), "the end") || len(err.Error()) > 8<<10 {
			t.Errorf("%.100v … %q", err, err.Error()[max(0, len(err.Error())-100):])
		}
	})
	t.Run("fails at the end", func(t *testing.T) {
		fake(t, tried+"cat; exit 1")
		if _, err := trySeal(t.Context(), o, nil, data); err == nil {
			t.Error("no error")
		}
	})
	t.Run("says nothing of what it read", func(t *testing.T) {
		fake(t, "cat")
		if _, err := opened(bytes.NewReader(data), o.Form(), Keys{}); err == nil {
			t.Error("no error")
		}
	})
	t.Run("reads for ever", func(t *testing.T) {
		fake(t, "exec sleep 1000")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(200*time.Millisecond, func() { cancel(cause) })
		r, err := NewReader(ctx, bytes.NewReader(data), o.Form(), Keys{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, cause) {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("closed early", func(t *testing.T) {
		fake(t, "exec sleep 1000")
		r, err := NewReader(t.Context(), bytes.NewReader(data), Form{Compressed: true, Cipher: GPG}, Keys{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("full destination", func(t *testing.T) {
		fake(t, tried+"cat")
		w, err := NewWriter(t.Context(), &failing{left: 100_000, err: cause}, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(data)
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, cause) {
			t.Error(err)
		}
	})
	t.Run("in the middle of its input", func(t *testing.T) {
		fake(t, tried+"sleep 0.2; echo made; exec sleep 1000")
		w, err := startGPG(t.Context(), &failing{err: cause}, o.Recipients)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); !errors.Is(err, cause) {
			t.Error(err)
		}
		w.end()
		select {
		case <-w.fed:
			t.Error("what it was given was still being read")
		case <-time.After(100 * time.Millisecond):
		}
	})
	t.Run("missing", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := NewWriter(t.Context(), io.Discard, o, nil); err == nil || !strings.Contains(err.Error(), "gnupg") {
			t.Error(err)
		}
		if _, err := NewReader(t.Context(), bytes.NewReader(data), o.Form(), Keys{}); err == nil || !strings.Contains(err.Error(), "gnupg") {
			t.Error(err)
		}
	})
}

// TestGPGSettings has settings of the user's that would change what is stored, or
// keep anything from being stored.
func TestGPGSettings(t *testing.T) {
	keyring(t)
	newKey(t, "someone@example.org", "")
	to := gpgTo(t, "someone@example.org")
	stream := []byte("one line \t\nanother\r\n\x00\xff\nand a last one")
	for _, setting := range []string{
		"textmode", "for-your-eyes-only", "armor", "dry-run", "compress-level 9", "output /dev/null", "rfc2440", "rfc4880",
		"personal-cipher-preferences 3DES", "cipher-algo 3DES", "disable-mdc",
	} {
		t.Run(setting, func(t *testing.T) {
			conf := filepath.Join(os.Getenv("GNUPGHOME"), "gpg.conf")
			if err := os.WriteFile(conf, []byte(setting+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(conf)
			var sealed bytes.Buffer
			w, err := NewWriter(t.Context(), &sealed, Options{Recipients: to}, nil)
			if err == nil {
				_, err = w.Write(stream)
				err = errors.Join(err, w.Close())
			}
			if setting == "dry-run" || setting == "rfc2440" { // which has no checksum
				if err == nil || !strings.Contains(err.Error(), setting) {
					t.Errorf("the error is: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(conf); err != nil {
				t.Fatal(err)
			}
			r, err := NewReader(t.Context(), &sealed, Form{Cipher: GPG}, Keys{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, stream) {
				t.Errorf("of %q comes %q, %v", stream, got, err)
			}
		})
	}
}
