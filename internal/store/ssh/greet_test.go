package ssh

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func lineOf(t testing.TB, g greeting) string {
	t.Helper()
	text, err := g.hello()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestHelloRoundTrip(t *testing.T) {
	g := newGreeting("v2.0", true)
	g.Dir, g.Mode, g.Wishes = "/srv/a b\xff\n%41/", Append, Wishes{Protocol: 2, Plain: true}
	g.Location = "btrfs 1 2 a\xff%41"
	in := bufio.NewReader(strings.NewReader(lineOf(t, g) + "frames"))
	back, err := readHello(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(g, back); diff != "" {
		t.Errorf("it came back otherwise (-sent +read):\n%s", diff)
	}
	if rest, _ := io.ReadAll(in); string(rest) != "frames" {
		t.Errorf("behind the line there is %q", rest)
	}
	g.Program = strings.Repeat("x", maxHello)
	if _, err := g.hello(); err == nil {
		t.Error("a line that is too long is made")
	}
}

func TestReadHelloRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "EOF",
		"buttersink-protocol 1 {}":          "EOF",
		"version\n":                         `it begins with "version"`,
		"\x7fELF\x00\n":                     `it begins with "\x7fELF\x00"`,
		"buttersink-protocol\n":             "it begins with",
		"buttersink-protocol 1x {}\n":       "it begins with",
		"buttersink-protocol 2 {}\n":        "too old for the other",
		"buttersink-protocol 1 {\n":         "reading the greeting",
		"buttersink-protocol 1\n":           "reading the greeting",
		strings.Repeat("x", maxHello+1):     "it begins with",
		"buttersink-protocol 1 [1, 2, 3]\n": "reading the greeting",
	} {
		_, err := readHello(bufio.NewReader(strings.NewReader(text)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("readHello(%.40q): %v, want %q", text, err, want)
		}
	}
}

func TestAwaitHello(t *testing.T) {
	good := lineOf(t, newGreeting("there", false))
	sent := lineOf(t, newGreeting("here", true))
	old := `{"errorType": "Exception", "command": "buttersink-protocol", "error": "Unknown command", "server": true, "traceback": "File \"x\""}` + "\n"
	for name, c := range map[string]struct {
		in, banner, err string
	}{
		"at once":                    {good, "", ""},
		"a banner":                   {"Welcome!\r\n\r\nHave fun.\n" + good, "Welcome!\n\nHave fun.\n", ""},
		"a banner without an end":    {"hello " + good, "hello ", ""},
		"a terminal":                 {sent + good, "", errEcho.Error()},
		"a terminal with its ends":   {"motd\n" + strings.ReplaceAll(sent, "\n", "\r\n"), "motd\n", errEcho.Error()},
		"an old one":                 {old, "", errOldPeer.Error()},
		"an old one behind a banner": {"Debian\n" + old, "Debian\n", errOldPeer.Error()},
		"nothing":                    {"", "", "unexpected EOF"},
		"a shell that says no":       {"This account is not available.\n", "This account is not available.\n", "unexpected EOF"},
		"half a line":                {"buttersink-proto", "buttersink-proto", "unexpected EOF"},
		"too much":                   {strings.Repeat("all the news of today\n", 1+maxBanner/22), "", "all the news of today"},
		"too long a line":            {strings.Repeat("x", maxHello+1), "", "it begins with"},
		"from the future":            {"buttersink-protocol 12 {}\n", "", "version 12"},
		"talks about it":             {"use buttersink-protocol  now\n" + good, "use buttersink-protocol  now\n", ""},
	} {
		in := bufio.NewReader(strings.NewReader(c.in + "rest"))
		g, banner, err := awaitHello(in, []byte(sent))
		if c.err == "unexpected EOF" {
			in = bufio.NewReader(strings.NewReader(c.in))
			g, banner, err = awaitHello(in, []byte(sent))
		}
		if c.err == "" {
			if err != nil || g.Program != "there" {
				t.Errorf("%s: %+v, %v", name, g, err)
			}
			if rest, _ := io.ReadAll(in); string(rest) != "rest" {
				t.Errorf("%s: behind the line there is %q", name, rest)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		if c.banner != "" && string(banner) != c.banner {
			t.Errorf("%s: the banner is %q, want %q", name, banner, c.banner)
		}
	}
}

func TestAgree(t *testing.T) {
	for _, c := range []struct {
		low, high int
		old       string
	}{
		{1, 1, ""}, {0, 5, ""}, {1, 900, ""}, {2, 3, "here is too old"}, {0, 0, "there is too old"}, {3, 1, "too old"}, {-1, -5, "too old"},
	} {
		version, err := greeting{Program: "v\x1b[1m9", Lowest: c.low, Highest: c.high}.agree()
		if c.old == "" {
			if err != nil || version != 1 {
				t.Errorf("%d to %d: %d, %v", c.low, c.high, version, err)
			}
			continue
		}
		if _, ok := errors.AsType[*versionError](err); !ok || !strings.Contains(err.Error(), c.old) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%d to %d: %v", c.low, c.high, err)
		}
	}
}

// FuzzHello reads greetings as both sides do. What is read comes back the same
// when it is sent on, and bounded memory is used for it.
func FuzzHello(f *testing.F) {
	g := newGreeting("here", true)
	g.Dir = "/srv/x"
	sent := lineOf(f, g)
	g.Error = failureOf(&ModeError{Mode: Read, Call: callRemove})
	f.Add([]byte(sent))
	f.Add([]byte("banner\nmore" + lineOf(f, g)))
	f.Add([]byte(`{"error": "Unknown command", "server": true}` + "\n"))
	f.Add([]byte("version\nbuttersink-protocol 1 {\"lowest\":1}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if g, err := readHello(bufio.NewReader(bytes.NewReader(raw))); err == nil {
			if again, err := g.hello(); err == nil {
				if back, err := readHello(bufio.NewReader(bytes.NewReader(again))); err != nil || !cmp.Equal(g, back) {
					t.Errorf("%q came back as %+v, %v", again, back, err)
				}
			}
			_ = g.Error.err("far")
		}
		g, banner, err := awaitHello(bufio.NewReader(bytes.NewReader(raw)), []byte(sent))
		if len(banner) > maxBanner+2*maxHello {
			t.Errorf("a banner of %d bytes is kept", len(banner))
		}
		if err == nil {
			_, _ = g.agree()
		}
	})
}
