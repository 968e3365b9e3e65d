// Package storetest holds stores to their contract. It has a suite that every
// store passes, live ones and archives ([Run]), a live store that is kept in memory ([Memory]), and
// a decorator in which things go wrong to order ([Fault]).
//
// Only tests import it. It knows the contract of package store and streams, and
// no store but its own: what the suite needs done to a store besides, a
// [Harness] does.
//
//	func TestContract(t *testing.T) {
//		storetest.Run(t, storetest.Harness{New: ..., Again: ..., Populate: ..., Digest: ...})
//	}
package storetest
