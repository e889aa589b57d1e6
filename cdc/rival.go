package cdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrider-relay/outrider/checkpoint"
)

// A rival is another relay of this one's name on the same Kafka cluster, with a slot or a database of its own: nothing in
// this database keeps the two apart, and each fences the other when it begins.
const rivalCase = "name in use"

const (
	// rivalFences is how many fences in a row prove a rival. One may come from a request that was on its way for long.
	rivalFences = 3
	// rivalWindow is how far apart two of them may lie. Acks between them prove nothing: two relays that both have
	// something to send deliver in turn, and two that never write into the same partition notice each other only when they
	// renew their hold on the producer, every six hours.
	rivalWindow = 24 * time.Hour
)

// suspect looks for a rival behind the end of a session, and gives the verdict in place of err when it is proven.
func (s *session) suspect(err error) error {
	r := s.relay
	var fenced interface{ TransactionalID() string }
	var judged judgedBySink
	var blocked *Blocked
	switch {
	case errors.As(err, &blocked):
		return err // it has been judged
	case errors.As(err, &fenced):
		if !s.stillLeads() {
			return err // whoever took the slot has to fence us
		}
		if time.Since(r.lastFence) > rivalWindow {
			r.fences = 0
		}
		r.lastFence = time.Now()
		if r.fences++; r.fences < rivalFences {
			return err
		}
		return s.rival(fmt.Sprintf("Kafka has told it %d times that a producer with its transactional id %s has taken its place, while nobody else took its slot or its checkpoint", r.fences, fenced.TransactionalID()), err)
	case errors.As(err, &judged):
		// A rival that writes into the same partitions leaves events there that this database never committed.
		verdict, reason, _, _ := judged.Blocked()
		if verdict == "diverged" && (r.fences > 0 && time.Since(r.lastFence) < rivalWindow || s.rivalry) {
			return s.rival("after Kafka had told it that another producer has taken its place. "+reason, nil) // not err, which would be judged again
		}
	}
	return err
}

// stillLeads says that no other session has taken the checkpoint row since this one did.
func (s *session) stillLeads() bool {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	leads := false
	err := s.ask(ctx, func(ctx context.Context) error {
		row, known, err := checkpoint.Read(ctx, s.control, s.cfg.Name)
		leads = known && row.Generation == s.generation
		return err
	})
	return err == nil && leads
}

// rival is the verdict.
func (s *session) rival(how string, err error) *Blocked {
	s.relay.fences = 0
	return &Blocked{
		Verdict: rivalCase,
		Reason:  fmt.Sprintf("another relay of the name %s writes to this Kafka cluster, from another database or through another slot: %s", s.cfg.Name, how),
		Advice:  "A name is unique on its Kafka cluster: give one of the two relays another one, or stop it. Then go on from the checkpoint; what this relay had sent when it was fenced may be sent again: " + s.resolve("--accept-repeats"),
		Options: []checkpoint.Action{checkpoint.AcceptRepeats}, Err: err,
	}
}

// acceptsRival says that a person has settled which of the two goes on: what lies in the partitions may be the other's.
func (s *session) acceptsRival() bool {
	return s.accepts(checkpoint.AcceptRepeats) && s.verdict.Case == rivalCase
}
