package glaciertest

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
)

// Request is what the server has seen of one request.
type Request struct {
	// Op is what the API calls it: "UploadMultipartPart", "InitiateJob".
	Op string
	// Vault is the name of the vault, and ID that of the archive, upload or job, where
	// the path names one. Of InitiateJob it is the archive that is asked for.
	Vault, ID string
	// Tier and Type are those of InitiateJob ("Bulk", "archive-retrieval").
	Tier, Type string
	Header     http.Header
	// Sent is how many bytes its body had, Answered how many that of the answer.
	Sent, Answered int64
	// Status is what was answered; 0 if nothing was. Code is that of the error.
	Status int
	Code   string
	// Ours is set where it was a fault that was asked for.
	Ours bool
}

// faults is the trouble that was asked for, and the list of what was seen.
type faults struct {
	mu    sync.Mutex
	rules []*rule
	seen  []*Request
}

// rule is when a request is not just answered.
type rule struct {
	ops    []string // empty for all
	skip   int      // how many times it is passed over first
	left   int      // how many more times; below 0 for ever
	share  float64
	status int    // what is answered; 0 for the reply to get lost
	code   string // with status
	cut    int64  // at status 0: after how many bytes of the reply's body, or of the request's
	early  bool   // the connection breaks while the request is read
}

// Fail answers the next n requests with an error of the API: a status (503) and a
// code ("InsufficientCapacityException"). Nothing is done. Ops name the operations
// that are meant; none means all.
func (s *Server) Fail(n, status int, code string, ops ...string) {
	s.faults.add(&rule{ops: ops, left: n, share: 1, status: status, code: code})
}

// FailAfter is Fail for n requests after some that go through.
func (s *Server) FailAfter(through, n, status int, code string, ops ...string) {
	s.faults.add(&rule{ops: ops, skip: through, left: n, share: 1, status: status, code: code})
}

// FailShare answers a share of all requests, from 0 to 1, with an error, until
// Calm.
func (s *Server) FailShare(share float64, status int, code string, ops ...string) {
	s.faults.add(&rule{ops: ops, left: -1, share: share, status: status, code: code})
}

// Throttle answers the next n requests with the service's wish for fewer.
func (s *Server) Throttle(n int, ops ...string) {
	s.Fail(n, http.StatusBadRequest, "ThrottlingException", ops...)
}

// Lose does what the next n requests ask for and breaks the connection instead of
// answering.
func (s *Server) Lose(n int, ops ...string) {
	s.faults.add(&rule{ops: ops, left: n, share: 1, cut: -1})
}

// LoseShare is Lose for a share of all requests, from 0 to 1, until Calm.
func (s *Server) LoseShare(share float64, ops ...string) {
	s.faults.add(&rule{ops: ops, left: -1, share: share, cut: -1})
}

// Cut breaks the connection of the next n requests after so many bytes of the
// answer's body. An answer that is shorter comes whole.
func (s *Server) Cut(n int, after int64, ops ...string) {
	s.faults.add(&rule{ops: ops, left: n, share: 1, cut: after})
}

// CutUp breaks the connection of the next n requests after so many bytes of their
// body were read. Nothing is done. A body that is shorter comes whole.
func (s *Server) CutUp(n int, after int64, ops ...string) {
	s.faults.add(&rule{ops: ops, left: n, share: 1, cut: after, early: true})
}

// Calm takes away all trouble.
func (s *Server) Calm() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.rules = nil
}

// Requests returns what was seen so far, of some operations or of all, in order.
func (s *Server) Requests(ops ...string) []Request {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	var seen []Request
	for _, r := range s.faults.seen {
		if len(ops) == 0 || slices.Contains(ops, r.Op) {
			seen = append(seen, *r)
		}
	}
	return seen
}

// Count is how many requests were seen, of some operations or of all.
func (s *Server) Count(ops ...string) int { return len(s.Requests(ops...)) }

// Forget begins the list of requests anew.
func (s *Server) Forget() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.seen = nil
}

func (f *faults) add(r *rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, r)
}

// match writes a request down, and returns the rule for it, or nil.
func (f *faults) match(r *Request) *rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, r)
	for _, rule := range f.rules {
		if len(rule.ops) > 0 && !slices.Contains(rule.ops, r.Op) || rule.left == 0 || rand.Float64() >= rule.share {
			continue
		}
		if rule.skip > 0 {
			rule.skip--
			continue
		}
		if rule.left > 0 {
			rule.left--
		}
		r.Ours = true
		return rule
	}
	return nil
}

// note changes what was written down of a request.
func (f *faults) note(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}
