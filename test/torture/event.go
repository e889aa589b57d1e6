package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// kinds are the aggregate types. A topic belongs to each.
var kinds = []string{"order", "customer", "parcel"}

const (
	topicPrefix = "outbox.event."
	deadLetters = "torture.dead"
	eventType   = "Changed"
	// forbidden is an aggregate type that makes no topic's name.
	forbidden = "no topic!"
	// aggregates is how many there are, of all types together.
	aggregates = 60
)

// eventID says which row of which transaction an event is. As a UUID it carries a digest, so that no other id is taken for one.
type eventID struct {
	transaction uint64
	row         uint32
}

func (id eventID) String() string {
	b := binary.BigEndian.AppendUint64(nil, id.transaction)
	b = binary.BigEndian.AppendUint32(b, id.row)
	digest := sha256.Sum256(b)
	h := hex.EncodeToString(append(b, digest[:4]...))
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

var errForeignID = errors.New("no id of the writers")

func parseEventID(text string) (id eventID, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		return id, errForeignID
	}
	id = eventID{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])}
	if id.String() != text {
		return id, errForeignID
	}
	return id, nil
}

// event is a row of the outbox as it is written.
type event struct {
	id      eventID
	kind    string // aggregate type
	key     string // aggregate id
	version uint32 // of the aggregate
	payload string // JSON as Postgres prints it; empty: NULL
	pad     string // makes it longer
}

// newEvent makes a row of an aggregate.
func newEvent(id eventID, aggregate int, version uint32, pad string) event {
	kind := kinds[aggregate%len(kinds)]
	e := event{id: id, kind: kind, key: fmt.Sprintf("%s-%d", kind, aggregate), version: version, pad: pad}
	e.payload = fmt.Sprintf(`{"pad": "%s", "version": %d, "aggregate": "%s"}`, pad, version, e.key)
	return e
}

// headers carry what the checker needs where the payload is NULL or cut.
func (e *event) headers(seed uint64) string {
	return fmt.Sprintf(`{"sum": "%s", "version": "%d"}`, checksum(seed, e.id.String(), e.key, fmt.Sprint(e.version), e.payload), e.version)
}

// checksum covers what must arrive as it was written.
func checksum(seed uint64, fields ...string) string {
	h := sha256.New()
	_ = binary.Write(h, binary.BigEndian, seed) // a hash takes everything
	for _, f := range fields {
		_ = binary.Write(h, binary.BigEndian, uint64(len(f)))
		_, _ = h.Write([]byte(f))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
