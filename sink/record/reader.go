package record

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	errVarint = errors.New("ends inside a varint, or has one of more than 64 bits")
	errLength = errors.New("has a field that ends outside of it")
)

// readRecords yields count records, which fill section, to yield, each with its index and its offset in the batch. It
// trusts no byte of section.
func readRecords(section []byte, count int, baseTimestamp int64, yield func(i int, delta int64, r Record) bool) error {
	var headers []Header // one array for all records: it grows to the longest
	for i := range count {
		rest := reader{rest: section}
		body := reader{rest: rest.bytes(rest.varint())}
		r, delta := body.record(baseTimestamp, headers[:0])
		if err := cmp.Or(rest.err, body.err); err != nil {
			return fmt.Errorf("record %d of %d: %w", i, count, err)
		}
		section, headers = rest.rest, r.Headers
		if !yield(i, delta, r) {
			return nil
		}
	}
	if len(section) > 0 {
		return fmt.Errorf("record batch has %d bytes after the last of its %d records", len(section), count)
	}
	return nil
}

// reader takes fields off the front of rest. After its first error it yields zeros.
type reader struct {
	rest []byte
	err  error
}

// record reads the body of a record, which must be all that there is, and its offset in the batch.
func (d *reader) record(baseTimestamp int64, headers []Header) (r Record, delta int64) {
	d.bytes(1) // attributes
	r.Timestamp = baseTimestamp + d.varint()
	delta = d.varint()
	r.Key, r.Value = d.nullable(), d.nullable()
	for range d.count() {
		headers = append(headers, Header{Key: d.bytes(d.varint()), Value: d.nullable()})
	}
	r.Headers = headers
	if len(d.rest) > 0 {
		d.fail(fmt.Errorf("has %d bytes after its last field", len(d.rest)))
	}
	return r, delta
}

// count is a number of headers. Each takes two bytes at least, so what exceeds that cannot be one: a few bytes must
// not make a large loop or array.
func (d *reader) count() int {
	n := d.varint()
	if n < 0 || n > int64(len(d.rest)/2) {
		d.fail(errLength)
		return 0
	}
	return int(n)
}

func (d *reader) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail(errVarint)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *reader) nullable() []byte {
	n := d.varint()
	if n == -1 {
		return nil
	}
	return d.bytes(n)
}

func (d *reader) bytes(n int64) []byte {
	if n < 0 || n > int64(len(d.rest)) {
		d.fail(errLength)
		return nil
	}
	field := d.rest[:n:n]
	d.rest = d.rest[n:]
	return field
}

// fail keeps the first error: what follows it is its consequence.
func (d *reader) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}
