package reach

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/buttersink/buttersink/internal/store"
)

// unauthorized is how AWS names what is not allowed, which may be more than was
// asked for: using a key, for instance.
var unauthorized = regexp.MustCompile(`not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)`)

// Denied is the action that a message of the server's says is not allowed; the one
// that was asked for if it names none.
func Denied(message, asked string) string {
	if m := unauthorized.FindStringSubmatch(message); m != nil {
		return m[1]
	}
	return asked
}

// Unanswered explains an error of the SDK's that is not the server's answer, and
// marks it as temporary if it may go away. Server is the server for people; passing
// is set if the caller knows that it goes away.
func Unanswered(err error, server string, passing bool) error {
	if errors.Is(err, ErrStalled) {
		return store.MarkTemporary(ErrStalled)
	}
	if missing, ok := errors.AsType[*CredentialsError](err); ok {
		if IsNetwork(missing) {
			return store.MarkTemporary(missing)
		}
		return missing
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return fmt.Errorf("no host has the name %s; look at the endpoint and the region", dns.Name)
	}
	// What the SDK says of itself around it is of no use to anybody.
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = fmt.Errorf("asking %s: %w", server, u.Err)
	} else if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%w; AWS_CA_BUNDLE names a file with certificates to trust", err)
	}
	if passing || IsNetwork(err) {
		return store.MarkTemporary(err)
	}
	return err
}

// IsNetwork reports whether an error is about a connection.
func IsNetwork(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		return true
	}
	return errors.Is(err, net.ErrClosed)
}

// Broken reports whether a connection ended, or was cut, in the middle of
// something.
func Broken(err error) bool {
	return errors.Is(err, ErrStalled) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// Misdirected reports whether an error says that there is another server than is
// meant, or one that is not trusted: that stays so.
func Misdirected(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	return errors.Is(err, http.ErrSchemeMismatch)
}

// ReadError marks the error of a body that is being read.
func ReadError(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, io.EOF) || ctx.Err() != nil {
		return err
	}
	return store.MarkTemporary(err)
}

// NewRetries says what is asked again, how often, and after how long: up to
// longest, at random, twice as long each time, beginning with a second. Judge comes
// before what the SDK thinks of an error.
func NewRetries(attempts int, longest time.Duration, judge func(error) aws.Ternary) *retry.Standard {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.MaxBackoff = longest
		if longest < time.Second {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return longest, nil })
		}
		// A storm hits all connections at once; each goes on trying.
		o.RateLimiter = ratelimit.None
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(judge)}, o.Retryables...)
	})
}

// Server names the server of an endpoint for people.
func Server(endpoint string) string {
	if endpoint == "" {
		return "AWS"
	}
	return endpoint
}
