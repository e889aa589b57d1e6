package simulation

import "sync/atomic"

// flaw is an error in a model, planted to see that the script finds it.
type flaw int32

const (
	noFlaw flaw = iota

	epochsIgnored      // a partition takes batches of an older epoch
	sequencesIgnored   // a partition takes any sequence number
	repeatsAppended    // a partition knows no repeat
	memoryWithoutEnd   // a partition remembers more than five batches
	memoryWithoutAge   // a partition never forgets a producer
	markersPowerless   // a marker does not raise the epoch
	markersAsData      // a marker leaves the sequence numbers of an older epoch as they were
	initFences         // InitProducerID alone stops the older epoch
	openTransactionsOK // InitProducerID takes no notice of an open transaction

	startsBelowSent    // START_REPLICATION below the confirmed position is obeyed
	startsAboveRefused // one above the end of WAL starts at the end
	commitLSNSkips     // one at a commit LSN skips that transaction
	futureIgnored      // a flush position above the end of WAL does nothing
	flushGoesBack      // a lower flush position is obeyed
	crashesForgetNone  // confirmed_flush_lsn is what it was, after a crash
	slotsShared        // a slot can be read twice
	claimsUnchecked    // the checkpoint row can be taken without owning the slot
)

// planted is the flaw of all models; tests that plant one do not run beside others.
var planted atomic.Int32

func plantedIn(f flaw) bool { return flaw(planted.Load()) == f }
