package wire

import (
	"context"
	"io"
	"testing"
)

func TestCall(t *testing.T) {
	ar, bw := io.Pipe()
	br, aw := io.Pipe()
	cl, sv := NewClient(ar, aw, Options{}), NewServer(br, bw, Options{})
	ctx := t.Context()
	go func() {
		k, req, err := sv.Accept(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		if string(req) != "list" {
			t.Errorf("request %q", req)
		}
		_ = k.Send(ctx, []byte("first"))
		for range 100 {
			_, _ = k.Write(make([]byte, 100<<10))
		}
		_ = k.End([]byte("done"))
	}()
	k, err := cl.Call(ctx, []byte("list"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := k.Receive(ctx)
	if err != nil || string(m) != "first" {
		t.Fatal(string(m), err)
	}
	n, err := io.Copy(io.Discard, k)
	if err != nil || n != 100*100<<10 {
		t.Fatal(n, err)
	}
	m, err = k.Receive(ctx)
	if err != nil || string(m) != "done" {
		t.Fatal(string(m), err)
	}
	if _, err = k.Receive(ctx); err != io.EOF {
		t.Fatal(err)
	}
	if err := cl.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sv.Accept(context.Background()); err != io.EOF {
		t.Fatal(err)
	}
	bw.Close()
	aw.Close()
}
