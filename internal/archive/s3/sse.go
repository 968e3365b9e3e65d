package s3

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// How the server encrypts what it stores.
const (
	sseNone = "none"
	sseKMS  = "aws:kms"
)

// checkSSE says whether the options for encryption make sense.
func checkSSE(o Options) error {
	switch o.SSE {
	case "", string(types.ServerSideEncryptionAes256), sseNone:
		if o.KMSKey != "" {
			return fmt.Errorf("a KMS key needs sse=%s", sseKMS)
		}
		return nil
	case sseKMS, string(types.ServerSideEncryptionAwsKmsDsse):
		return nil
	}
	return fmt.Errorf("sse=%s is unknown; there are AES256, aws:kms and none", o.SSE)
}

// encryption is how something is to be stored; empty for as the bucket is set.
type encryption struct {
	how types.ServerSideEncryption
	key *string
}

// manner is how a request asks for things that not all servers know.
type manner struct {
	sse  encryption
	once bool // only where there is no such object
}

// sse is how something is stored, if the server knows that.
func (b *Bucket) sse(lacking bool) encryption {
	switch b.o.SSE {
	case sseNone:
		return encryption{}
	case "":
		if lacking {
			return encryption{}
		}
		// As ButterSink has always done, even where a bucket does it by itself.
		return encryption{how: types.ServerSideEncryptionAes256}
	}
	e := encryption{how: types.ServerSideEncryption(b.o.SSE)}
	if b.o.KMSKey != "" {
		e.key = &b.o.KMSKey
	}
	return e
}

// adapt asks for something with encryption and, with once set, under the
// condition that it is not there. Where the server says that it does not know
// such a thing, it finds out which one by leaving them out, and says so once. What
// is asked for by the user is never left out. Before it leaves out the condition
// it looks for itself, with taken.
func (b *Bucket) adapt(sse, once bool, taken func() error, ask func(manner) error) error {
	b.mu.Lock()
	now := b.lacks
	b.mu.Unlock()
	tries := []lacks{now}
	if sse && b.o.SSE == "" && !now.sse {
		tries = append(tries, lacks{sse: true, once: now.once})
	}
	if once && !now.once {
		tries = append(tries, lacks{sse: now.sse, once: true})
		if len(tries) > 2 {
			tries = append(tries, lacks{sse: true, once: true})
		}
	}
	var first error
	for _, l := range tries {
		m := manner{once: once && !l.once}
		if sse {
			m.sse = b.sse(l.sse)
		}
		if once && l.once {
			if err := taken(); err != nil {
				return err
			}
		}
		err := ask(m)
		if first == nil {
			first = err
		}
		if a, ok := answerIn(err); ok && (a.status == 501 || a.code == "NotImplemented") {
			continue
		}
		if err == nil {
			b.learn(l)
		}
		return err
	}
	return first
}

// learn keeps what the server does not know.
func (b *Bucket) learn(l lacks) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.sse && !b.lacks.sse {
		b.log.Warn("the server cannot encrypt what it stores; it is stored as it is", "server", b.server())
	}
	if l.once && !b.lacks.once {
		b.log.Warn("the server has no conditional writes: only one machine at a time should write to the bucket", "server", b.server())
	}
	b.lacks.sse, b.lacks.once = b.lacks.sse || l.sse, b.lacks.once || l.once
}
