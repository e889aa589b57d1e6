package sink

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go/protocol/metadata"
)

// A topic that is unknown or forbidden when a session begins can be neither fenced nor read. The session goes on without it:
// what is routed there waits, and when it is back the session ends, so that the next one fences it and sees what is in it.

// leaveOut says which topics the scan has left out, and what that means for their rows.
func (f *fence) leaveOut(ctx context.Context, parts []*scanned) error {
	var forgetting []*scanned
	complete := f.ledger.Complete()
	for _, p := range parts {
		_, out := f.without[p.Topic]
		switch {
		case !out || p.marker >= 0:
		case p.ScanFrom == forgotten:
			forgetting = append(forgetting, p) // as was decided once, and the next session is not told
		case !complete:
			f.unread[p.Topic] = true
		}
	}
	var missing, forbidden []string
	for topic, code := range f.without {
		if code == codeUnknownTopic {
			missing = append(missing, topic)
		} else {
			forbidden = append(forbidden, topic+" ("+errorName(code)+")")
		}
	}
	if len(missing) > 0 { // which is no trouble as long as no row is for it: it may have been deleted for good
		slices.Sort(missing)
		f.k.cfg.Log.Warn().Strs("topics", missing).Msg("topics that this relay has written to do not exist any more; rows for them will wait")
	}
	if len(forbidden) > 0 {
		slices.Sort(forbidden)
		f.k.setTrouble("fence", "cannot be fenced and read, and are not written until they can (READ, WRITE and DESCRIBE): "+strings.Join(forbidden, ", "))
	}
	return f.forget(ctx, forgetting)
}

// keeps says that rows for a topic are never given up, since Kafka may hold them already: what the sessions before left there
// above the checkpoint could not be read.
func (f *fence) keeps(topic string) bool { return f != nil && f.unread[topic] }

// stillOut gives the code by which a topic is out of the session's reach; 0 for one that is not. Where one that was left out is
// back the session ends. Kafka.mu is held.
func (f *fence) stillOut(t *metadata.ResponseTopic) (code int16) {
	if f == nil || t.ErrorCode != 0 {
		return t.ErrorCode
	}
	code, out := f.without[t.Name]
	if !out {
		return 0
	}
	// Any right on a topic has it described. What may be done there is told by brokers since 2.3 (KIP-430).
	if may := t.TopicAuthorizedOperations; may > 0 && (may&mayRead == 0 || may&mayWrite == 0) {
		return codeTopicForbidden
	}
	f.k.failLocked(fmt.Errorf("topic %s is back after %s when the session began: the session starts over, to fence it and see what is in it", t.Name, errorName(code)))
	return code
}
