package cdc

import "github.com/outrider-relay/outrider/decoder"

// noteIgnored takes over what the decoder has counted since the last time. Called once a block, never per row.
func (s *session) noteIgnored() {
	now, before := s.decoder.Ignored, s.ignored
	if now == before {
		return
	}
	s.ignored = now
	s.relay.ignore(now, before)
	if before.Messages == 0 && now.Messages > 0 {
		s.log.Warn().Strs("prefixes", s.cfg.Postgres.Prefixes).
			Msg("a logical message of ours is not transactional: it belongs to no commit, so that it cannot be delivered once and in order, and is left out, as are others like it; emit it with pg_logical_emit_message(true, ...)")
	}
}

// ignore adds what was counted between before and now.
func (r *Relay) ignore(now, before decoder.Ignored) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ignored.Inserts += int64(now.Inserts - before.Inserts)
	r.ignored.Updates += int64(now.Updates - before.Updates)
	r.ignored.Deletes += int64(now.Deletes - before.Deletes)
	r.ignored.Truncates += int64(now.Truncates - before.Truncates)
	r.ignored.Messages += int64(now.Messages - before.Messages)
}
