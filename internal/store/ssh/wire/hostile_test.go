package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
)

// raw is a frame as bytes.
func raw(kind, flags byte, call uint32, payload []byte) []byte {
	var h [headerSize]byte
	header{kind, flags, call, len(payload)}.put(h[:])
	return append(h[:], payload...)
}

// lied is a frame whose length is said to be another one.
func lied(frame []byte, length uint32) []byte {
	frame = bytes.Clone(frame)
	binary.LittleEndian.PutUint32(frame[8:], length)
	return frame
}

// packed is the payload of compressed data, with a plain length to be said.
func packed(t testing.TB, plain []byte, said int) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll(plain, binary.LittleEndian.AppendUint32(nil, uint32(said)))
}

// TestOffences has the other side do what it must not.
func TestOffences(t *testing.T) {
	request := raw(typeRequest, 0, 1, []byte("r"))
	then := func(frames ...[]byte) []byte { return bytes.Join(append([][]byte{request}, frames...), nil) }
	window := func(n uint32) []byte { return raw(typeWindow, 0, 1, binary.LittleEndian.AppendUint32(nil, n)) }
	reserved := raw(typePing, 0, 0, make([]byte, 8))
	reserved[2] = 1
	reserved2 := raw(typePing, 0, 0, make([]byte, 8))
	reserved2[3] = 1
	var tooMuch, tooMany, manyCalls []byte
	for range 2 {
		tooMuch = append(tooMuch, raw(typeData, 0, 1, make([]byte, MaxData))...)
	}
	for range firstWindow/frameCost + 1 {
		tooMany = append(tooMany, raw(typeMessage, 0, 1, nil)...)
	}
	for i := range 65 {
		manyCalls = append(manyCalls, raw(typeRequest, 0, uint32(i+1), nil)...)
	}
	for name, c := range map[string]struct {
		client bool
		input  []byte
		want   string
	}{
		"no type":               {input: raw(0, 0, 0, nil), want: "type 0"},
		"an unknown type":       {input: raw(typeLimit, 0, 0, nil), want: "type 10"},
		"text":                  {input: []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), want: "type 72"},
		"reserved bytes":        {input: reserved, want: "reserved"},
		"other reserved bytes":  {input: reserved2, want: "reserved"},
		"flags":                 {input: raw(typePing, 1, 0, make([]byte, 8)), want: "flags 0x1"},
		"unknown flags":         {input: then(raw(typeData, 2, 1, []byte("x"))), want: "flags 0x2"},
		"compressed message":    {input: then(raw(typeMessage, flagZstd, 1, []byte("x"))), want: "flags"},
		"call 0":                {input: raw(typeRequest, 0, 0, nil), want: "for call 0"},
		"a ping of a call":      {input: raw(typePing, 0, 3, make([]byte, 8)), want: "for call 3"},
		"a long request":        {input: lied(request, MaxRequest+1), want: "1048577 bytes"},
		"a very long request":   {input: lied(request, 1<<32-1), want: "4294967295 bytes"},
		"a long message":        {input: then(lied(raw(typeMessage, 0, 1, nil), MaxMessage+1)), want: "65537 bytes"},
		"long data":             {input: then(lied(raw(typeData, 0, 1, nil), MaxData+1)), want: "262145 bytes"},
		"no data":               {input: then(raw(typeData, 0, 1, nil)), want: "0 bytes"},
		"short compressed data": {input: then(raw(typeData, flagZstd, 1, []byte("1234"))), want: "4 bytes"},
		"an end too long":       {input: then(lied(raw(typeEnd, 0, 1, nil), MaxRequest+1)), want: "1048577 bytes"},
		"a long cancel":         {input: then(raw(typeCancel, 0, 1, []byte("x"))), want: "CANCEL frame of 1 bytes"},
		"a short window":        {input: then(raw(typeWindow, 0, 1, []byte("x"))), want: "WINDOW frame of 1 bytes"},
		"a short ping":          {input: raw(typePing, 0, 0, []byte("x")), want: "PING frame of 1 bytes"},
		"a long goodbye":        {input: raw(typeGoodbye, 0, 0, make([]byte, maxReason+1)), want: "GOODBYE frame"},
		"a request twice":       {input: then(request), want: "a REQUEST for call 1 after that for call 1"},
		"calls out of order":    {input: append(raw(typeRequest, 0, 7, nil), raw(typeRequest, 0, 3, nil)...), want: "call 3 after that for call 7"},
		"too many calls":        {input: manyCalls, want: "more than 64 calls"},
		"data before a call":    {input: raw(typeData, 0, 1, []byte("x")), want: "has not begun"},
		"data after the end":    {input: then(raw(typeEnd, 0, 1, nil), raw(typeData, 0, 1, []byte("x"))), want: "after its END"},
		"an end after the end":  {input: then(raw(typeEnd, 0, 1, nil), raw(typeEnd, 0, 1, nil)), want: "after its END"},
		"more than the window":  {input: then(tooMuch), want: "than its window"},
		"too many small frames": {input: then(tooMany), want: "64 bytes more for call 1 than its window"},
		"an empty window":       {input: then(window(0)), want: "a window of 0"},
		"a huge window":         {input: then(window(maxWindow)), want: "a window of 268435456"},
		"windows that add up":   {input: then(window(maxWindow/2), window(maxWindow/2)), want: "a window of 134217728"},
		"more plain than is allowed": {
			input: then(raw(typeData, flagZstd, 1, packed(t, []byte("x"), MaxData+1))), want: "262145 plain bytes",
		},
		"less plain than said": {
			input: then(raw(typeData, flagZstd, 1, packed(t, make([]byte, 3000), 3001))), want: "of 3000 plain bytes, which were said to be 3001",
		},
		"data that are longer compressed": {
			input: then(raw(typeData, flagZstd, 1, packed(t, []byte("abc"), 3))), want: "bytes for 3 plain ones",
		},
		"a bomb": {
			input: then(raw(typeData, flagZstd, 1, packed(t, make([]byte, 64<<20), 100_000))), want: "cannot be read",
		},
		"no zstd": {
			input: then(raw(typeData, flagZstd, 1, []byte("\xff\x00\x00\x00junk junk junk"))), want: "cannot be read",
		},
		"a request to a client":      {client: true, input: request, want: "REQUEST from a server"},
		"an answer without question": {client: true, input: raw(typeEnd, 0, 9, nil), want: "call 9, which has not begun"},
	} {
		t.Run(name, func(t *testing.T) {
			replies, out := io.Pipe()
			said := make(chan []byte, 1)
			go func() {
				all, _ := io.ReadAll(replies)
				said <- all
			}()
			rest, hold := io.Pipe() // the input does not end
			in := io.MultiReader(bytes.NewReader(c.input), rest)
			var conn *Conn
			if c.client {
				conn = NewClient(in, out, Options{})
			} else {
				conn = NewServer(in, out, Options{})
				go func() {
					if k, _, err := conn.Accept(t.Context()); err == nil && strings.Contains(c.want, "plain") || err == nil && strings.Contains(c.want, "cannot be read") {
						_, _ = io.Copy(io.Discard, k)
					}
				}()
			}
			<-conn.Done()
			<-conn.gone
			out.Close()
			hold.Close()
			e, ok := errors.AsType[*ProtocolError](conn.Err())
			if !ok || !strings.Contains(e.What, c.want) {
				t.Errorf("got %v, want %q", conn.Err(), c.want)
			}
			// The other side is told, last.
			if all := <-said; !bytes.Contains(all, []byte(e.What)) {
				t.Errorf("the other side is told %q", all)
			}
		})
	}
}

// TestLate checks that frames that cross the end of their call are no offence, and
// that a call which is cancelled before anybody accepts it is not given out.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		input := bytes.Join([][]byte{
			raw(typeRequest, 0, 1, nil), raw(typeCancel, 0, 1, nil), raw(typeData, 0, 1, []byte("x")), raw(typeEnd, 0, 1, nil),
			raw(typeCancel, 0, 1, nil), raw(typeMessage, 0, 1, nil), raw(typeWindow, 0, 1, make([]byte, 4)),
			raw(typeRequest, 0, 5, []byte("after")), raw(typeMessage, 0, 4, nil),
			raw(typePong, 0, 0, make([]byte, 8)),
		}, nil)
		rest, hold := io.Pipe()
		conn := NewServer(io.MultiReader(bytes.NewReader(input), rest), io.Discard, Options{})
		synctest.Wait()
		k, request, err := conn.Accept(t.Context())
		if err != nil || string(request) != "after" {
			t.Fatalf("%q: %v", request, err)
		}
		hold.Close()
		if _, err := k.Receive(t.Context()); !errors.Is(err, ErrHungUp) {
			t.Errorf("got %v, want %v", err, ErrHungUp)
		}
		k.Cancel()
		if _, _, err := conn.Accept(t.Context()); err != io.EOF {
			t.Errorf("got %v, want %v", err, io.EOF)
		}
		<-conn.gone
	})
}

// TestCancelledAtOnce has a client send data and give the call up: the server does
// not carry out what it has given up, and a call that it had ended but could not
// say so no longer counts.
func TestCancelledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, feed := io.Pipe()
		out := newWay(1) // nothing gets out
		conn := NewServer(in, out, Options{MaxCalls: 2})
		send := func(frames ...[]byte) {
			t.Helper()
			if _, err := feed.Write(bytes.Join(frames, nil)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		send(raw(typePing, 0, 0, make([]byte, 8)), raw(typeRequest, 0, 1, nil), raw(typeRequest, 0, 2, nil), raw(typeData, 0, 2, []byte("data")))
		for i := range 2 {
			k, _, err := conn.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				if err := k.End([]byte("done")); err != nil {
					t.Error(err)
				}
				continue
			}
			send(raw(typeCancel, 0, 1, nil), raw(typeCancel, 0, 2, nil), raw(typeRequest, 0, 3, nil), raw(typeRequest, 0, 4, nil))
			if n, err := k.Read(make([]byte, 10)); n != 0 || !errors.Is(err, ErrCancelled) {
				t.Errorf("read %d bytes of what was cancelled: %v", n, err)
			}
			if !errors.Is(context.Cause(k.Context()), ErrCancelled) {
				t.Errorf("the context ends with %v", context.Cause(k.Context()))
			}
			k.Cancel()
		}
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, _, err := conn.Accept(ctx); err != nil {
				t.Errorf("the calls that are over still count: %v", err)
			}
			cancel()
		}
		feed.Close()
		_ = out.Close()
		synctest.Wait()
	})
}

// FuzzFrames gives both sides any bytes, with calls open and being read. Whatever
// they are, the connection ends, all goroutines do, and nothing panics.
func FuzzFrames(f *testing.F) {
	request := raw(typeRequest, 0, 1, []byte("r"))
	data := raw(typeData, 0, 1, []byte("data"))
	for _, client := range []bool{false, true} {
		f.Add(client, []byte{})
		f.Add(client, request[:5])
		f.Add(client, append(request, data...))
		f.Add(client, append(request, raw(typeData, flagZstd, 1, packed(f, bytes.Repeat([]byte("abc"), 1000), 3000))...))
		f.Add(client, append(raw(typeEnd, 0, 1, []byte("end")), raw(typeCancel, 0, 2, nil)...))
		f.Add(client, append(raw(typeWindow, 0, 1, []byte{1, 0, 0, 0}), raw(typeGoodbye, 0, 0, []byte("bye\x00\xff"))...))
		f.Add(client, append(raw(typePing, 0, 0, make([]byte, 8)), request[:7]...))
	}
	f.Fuzz(func(t *testing.T, client bool, input []byte) {
		read := func(k *Call) {
			for {
				_, err := io.Copy(io.Discard, k)
				if err == nil {
					_, err = k.Receive(t.Context())
				}
				if err != nil {
					_, _ = k.Write(make([]byte, 1000))
					_ = k.End([]byte("x"))
					k.Cancel()
					return
				}
			}
		}
		var sent bytes.Buffer
		var conn *Conn
		calls := make(chan *Call, 3)
		if client {
			begin, hold := io.Pipe()
			conn = NewClient(io.MultiReader(begin, bytes.NewReader(input)), &sent, Options{Window: 1})
			for range 3 {
				k, err := conn.Call(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				calls <- k
			}
			close(calls)
			hold.Close()
		} else {
			conn = NewServer(bytes.NewReader(input), &sent, Options{Window: 1, MaxCalls: 3})
			go func() {
				defer close(calls)
				for {
					k, _, err := conn.Accept(t.Context())
					if err != nil {
						return
					}
					calls <- k
				}
			}()
		}
		for k := range calls {
			read(k)
		}
		<-conn.Done()
		<-conn.gone
		if conn.Err() == nil {
			t.Error("the connection has ended without an error")
		}
		// What was sent consists of whole frames.
		for rest := sent.Bytes(); len(rest) > 0; {
			h, err := parseHeader((*[headerSize]byte)(rest))
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[headerSize+h.length:]
		}
		if in := conn.Stats().WireIn; in > int64(len(input)) {
			t.Errorf("%d bytes came in of %d", in, len(input))
		}
	})
}

// TestNobodyReads has a client that reads nothing make calls and give them up again
// and again: what is kept of them is no more for it.
func TestNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, feed := io.Pipe()
		unread, out := io.Pipe()
		conn := NewServer(in, out, Options{})
		go func() {
			for {
				k, _, err := conn.Accept(t.Context())
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(io.Discard, k)
					_ = k.End([]byte("an answer"))
				}()
			}
		}()
		data := raw(typeData, 0, 0, make([]byte, MaxData))
		for n := uint32(1); n <= 500; n++ {
			binary.LittleEndian.PutUint32(data[4:], n)
			for _, frame := range [][]byte{raw(typeRequest, 0, n, nil), data, raw(typeEnd, 0, n, nil)} {
				if _, err := feed.Write(frame); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if _, err := feed.Write(raw(typeCancel, 0, n, nil)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		conn.mu.Lock()
		if len(conn.ring) > 1 || len(conn.urgent) > 1 || conn.live > 0 {
			t.Errorf("%d calls have something to send, %d something urgent, %d are served", len(conn.ring), len(conn.urgent), conn.live)
		}
		conn.mu.Unlock()
		unread.Close()
		feed.Close()
		<-conn.gone
	})
}
