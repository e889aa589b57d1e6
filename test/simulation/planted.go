package simulation

import "sync/atomic"

// flaw is an error in a model, planted to see that the comparison with the real part finds it.
type flaw int32

const (
	noFlaw              flaw = iota
	ignoreEpoch              // a partition takes batches of an older epoch
	ignoreSequence           // a partition takes any sequence number
	markerKeepsEpoch         // a marker does not raise the epoch
	markersBeforeAnswer      // EndTxn is answered after the markers are written
	forgetRepeats
	sendBelowConfirmed
	refuseFuture
)

// planted is the flaw of all models; tests that plant one do not run beside others.
var planted atomic.Int32

func plantedIn(f flaw) bool { return flaw(planted.Load()) == f }
