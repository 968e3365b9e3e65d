package ssh

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Each side begins with one line of text: helloWord, the version of the line
// itself, and a greeting in JSON. The client speaks first and at once, since an
// old ButterSink says nothing until it has been asked; the server answers when it
// has read the client's line. After the two lines there are only frames.
const (
	helloWord    = "buttersink-protocol"
	helloVersion = 1
	// maxHello is how long the line may be, with its end.
	maxHello = 64 << 10
	// maxBanner is how much a shell on the way may print before the server's line.
	maxBanner = 64 << 10
)

// Versions of what follows the greetings that are understood here.
const (
	lowestProtocol  = 1
	highestProtocol = 1
)

// errOldPeer says that the other side is a ButterSink that was written in
// Python.
var errOldPeer = errors.New("it is an old ButterSink, which has another protocol")

// errEcho says that what is sent comes back.
var errEcho = errors.New("what is sent to it comes back")

// notHelloError says that a line is no greeting.
type notHelloError struct{ line []byte } // without its end, cut where it is long

func (e *notHelloError) Error() string {
	return fmt.Sprintf("it is no buttersink that can be talked to: it begins with %s", quoteStart(e.line))
}

// versionError says that two programs have no version of the protocol in
// common.
type versionError struct {
	Program          string // of the other side
	Lowest, Highest  int    // of the other side
	OurLow, OurHighs int
}

func (e *versionError) Error() string {
	older := "there"
	if e.Lowest > e.OurHighs {
		older = "here"
	}
	return fmt.Sprintf("buttersink %s there speaks versions %s of the protocol, and the one here %s: the buttersink %s is too old for the other",
		e.Program, versions(e.Lowest, e.Highest), versions(e.OurLow, e.OurHighs), older)
}

func versions(low, high int) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d to %d", low, high)
}

// newGreeting returns a greeting that says what is understood here. Program is
// the version of the program, for people.
func newGreeting(program string, compress bool) greeting {
	return greeting{Program: program, Lowest: lowestProtocol, Highest: highestProtocol, Compress: compress}
}

// agree returns the version of the protocol that both sides use, or
// *versionError.
func (g greeting) agree() (int, error) {
	version := min(g.Highest, highestProtocol)
	if version < max(g.Lowest, lowestProtocol) {
		return 0, &versionError{Program: printable(g.Program), Lowest: g.Lowest, Highest: g.Highest, OurLow: lowestProtocol, OurHighs: highestProtocol}
	}
	return version, nil
}

// hello returns the line that carries a greeting, with its end.
func (g greeting) hello() ([]byte, error) {
	text, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	line := fmt.Appendf(nil, "%s %d %s\n", helloWord, helloVersion, text)
	if len(line) > maxHello {
		return nil, fmt.Errorf("greeting: the line would have %d bytes, and may have %d", len(line), maxHello)
	}
	return line, nil
}

// readHello reads the line with which a client begins. It reads nothing behind
// the line from in, beyond what in has read already. The error is
// *notHelloError where the line is none, with what it is, and io.EOF if there is
// nothing at all.
func readHello(in *bufio.Reader) (greeting, error) {
	line, err := readLine(in, maxHello)
	if err != nil {
		return greeting{}, err
	}
	g, _, ok, err := parseHello(line)
	if err == nil && !ok {
		err = &notHelloError{line}
	}
	return g, err
}

// awaitHello reads the greeting of a server, and what was printed before it. Sent
// is the line that the client has sent. Where no greeting comes, the error is
// errOldPeer, errEcho, *notHelloError after too much of a banner, or
// io.ErrUnexpectedEOF at the end of the input; banner is what came instead.
func awaitHello(in *bufio.Reader, sent []byte) (g greeting, banner []byte, err error) {
	for {
		line, err := readLine(in, maxHello)
		if errors.Is(err, io.EOF) {
			return greeting{}, append(banner, line...), io.ErrUnexpectedEOF
		}
		if err != nil {
			return greeting{}, append(banner, line...), err
		}
		if isSame(line, sent) {
			return greeting{}, banner, errEcho
		}
		if isOldAnswer(line) {
			return greeting{}, banner, errOldPeer
		}
		g, before, ok, err := parseHello(line)
		banner = append(banner, before...)
		if ok || err != nil {
			return g, banner, err
		}
		banner = append(banner, '\n')
		if len(banner) > maxBanner {
			return greeting{}, banner, &notHelloError{firstLine(banner)}
		}
	}
}

// readLine reads a line of at most limit bytes, and returns it without its end. The
// error is io.EOF at the end of the input, with what there is of a last line.
func readLine(in *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		piece, err := in.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case len(line) > limit:
			return line[:limit], &notHelloError{line[:limit]}
		case err == nil:
			return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'}), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		}
	}
}

// parseHello reads a greeting from a line, and what stands before it there: a
// banner need not end with a line. Ok is false if the line has none; the error is
// about a greeting that cannot be read.
func parseHello(line []byte) (g greeting, before []byte, ok bool, err error) {
	at := bytes.Index(line, []byte(helloWord+" "))
	if at < 0 {
		return greeting{}, line, false, nil
	}
	number, text, _ := bytes.Cut(line[at+len(helloWord)+1:], []byte{' '})
	if string(number) != fmt.Sprint(helloVersion) {
		if len(number) == 0 || len(number) > 9 || len(bytes.Trim(number, "0123456789")) > 0 {
			return greeting{}, line, false, nil
		}
		return greeting{}, line[:at], false, fmt.Errorf("it greets in version %s of the protocol's first line, and only %d is known here: one of the two programs is too old for the other", number, helloVersion)
	}
	if err := json.Unmarshal(text, &g); err != nil {
		return greeting{}, line[:at], false, fmt.Errorf("reading the greeting %s: %w", quoteStart(text), err)
	}
	return g, line[:at], true, nil
}

// isSame reports whether a line is the one that was sent, as it comes back from a
// terminal or from a command such as cat.
func isSame(line, sent []byte) bool {
	sent = bytes.TrimRight(sent, "\r\n")
	return len(sent) > 0 && bytes.HasSuffix(bytes.TrimRight(line, "\r\n"), sent)
}

// isOldAnswer reports whether a line is what ButterSink in Python answers to a
// command that it does not know.
func isOldAnswer(line []byte) bool {
	var old struct {
		Error  *string `json:"error"`
		Server bool    `json:"server"`
	}
	return bytes.HasPrefix(bytes.TrimSpace(line), []byte{'{'}) && json.Unmarshal(line, &old) == nil && old.Error != nil && old.Server
}

func firstLine(text []byte) []byte {
	line, _, _ := bytes.Cut(text, []byte{'\n'})
	return line
}
