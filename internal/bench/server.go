package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A server is versitygw, an S3 server that keeps buckets as directories.
type server struct {
	data   string
	rclone string
	env    []string // for who uses it
}

// remote is what rclone calls the server.
const remote = "bench:"

// startServer runs a server until the bench ends.
func startServer(ctx context.Context, program, rclone, dir string) (*server, error) {
	s := &server{data: filepath.Join(dir, "s3"), rclone: rclone}
	iam := filepath.Join(dir, "iam")
	if err := errors.Join(os.Mkdir(s.data, 0o755), os.Mkdir(iam, 0o755)); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	access, secret := "bench", rand.Text()
	cmd := exec.CommandContext(ctx, program, "--access", access, "--secret", secret, "--port", address,
		"--quiet", "--keep-alive", "--iam-dir", iam, "posix", s.data)
	cmd.Env = []string{"HOME=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (make servers makes it)", err)
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Since(begun) > 10*time.Second {
			return nil, fmt.Errorf("waiting for the server: %w", err)
		}
	}
	s.env = []string{
		"AWS_ACCESS_KEY_ID=" + access, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_REGION=us-east-1",
		"AWS_ENDPOINT_URL=http://" + address, "AWS_CA_BUNDLE=", "AWS_EC2_METADATA_DISABLED=true",
		"RCLONE_CONFIG=/dev/null", "RCLONE_CONFIG_BENCH_TYPE=s3", "RCLONE_CONFIG_BENCH_PROVIDER=Other",
		"RCLONE_CONFIG_BENCH_ENDPOINT=http://" + address, "RCLONE_CONFIG_BENCH_ACCESS_KEY_ID=" + access,
		"RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY=" + secret,
	}
	return s, nil
}

// create makes a bucket.
func (s *server) create(ctx context.Context, bucket string) error {
	_, err := do(ctx, one(s.rclone, "mkdir", remote+bucket), s.env)
	return err
}

// empty removes everything from a bucket, behind the server's back.
func (s *server) empty(bucket string) error {
	dir := filepath.Join(s.data, bucket)
	in, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range in {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// stock starts the server if a row needs it, and fills its bucket.
func (b *bench) stock(r row) error {
	if r.bucket == "" {
		return nil
	}
	if b.server == nil {
		rclone, err := filepath.Abs(b.o.rclone)
		if err != nil {
			return err
		}
		if b.server, err = startServer(b.ctx, b.o.versitygw, rclone, b.dir); err != nil {
			return err
		}
	}
	if b.stocked[r.bucket] {
		return nil
	}
	if err := b.server.create(b.ctx, r.bucket); err != nil {
		return err
	}
	b.stocked[r.bucket] = true
	if r.stock == nil {
		return nil
	}
	_, err := b.once(r, *r.stock, b.state())
	return err
}
