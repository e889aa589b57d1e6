package harness

import (
	"encoding/binary"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// frames cuts what passes into whole messages: piece by piece as they come, held back until they are complete.
type frames struct{ rest []byte }

// add gives the messages that a piece completes. size is that of the message at the beginning of what it is given, and 0 as
// long as too little of it is there to tell.
func (f *frames) add(piece []byte, size func([]byte) int) (whole [][]byte) {
	f.rest = append(f.rest, piece...)
	for {
		n := size(f.rest)
		if n == 0 || n > len(f.rest) {
			return whole
		}
		whole, f.rest = append(whole, f.rest[:n:n]), f.rest[n:]
	}
}

// Backdate gives a filter that makes every commit of a replication stream older than it is. The connection must be without
// TLS, and not even ask for it.
func Backdate(by time.Duration) Filter { return &backdate{by: by} }

type backdate struct {
	frames
	by time.Duration
}

func (b *backdate) Request(piece []byte) ([]byte, error) { return piece, nil }

func (b *backdate) Answer(piece []byte) ([]byte, error) {
	var out []byte
	for _, m := range b.add(piece, sizeOfPostgres) {
		const copyData, xLogData = 0, 5 // type and length before it; then 24 bytes of positions
		const begin = xLogData + 1 + 24
		if len(m) > begin && m[copyData] == 'd' && m[xLogData] == 'w' {
			// PostgreSQL, Logical Replication Message Formats: Begin and Commit.
			switch m[begin] {
			case 'B':
				b.age(m[begin+1+8:])
			case 'C':
				b.age(m[begin+1+1+8+8:])
			}
		}
		out = append(out, m...)
	}
	return out, nil
}

func (b *backdate) age(timestamp []byte) {
	at := int64(binary.BigEndian.Uint64(timestamp))
	binary.BigEndian.PutUint64(timestamp, uint64(at-b.by.Microseconds()))
}

func sizeOfPostgres(b []byte) int {
	if len(b) < 5 {
		return 0
	}
	return 1 + int(binary.BigEndian.Uint32(b[1:]))
}

// Lossy is a network before a Kafka broker that loses answers: the request arrives, and the connection is reset when the
// answer comes.
type Lossy struct {
	// Every n-th answer to a Produce request is lost.
	Every int64
	// Unbounded is a setting of brokers that clients are told is without bound; empty: none.
	Unbounded string

	produced, lost atomic.Int64
}

// Lost is the number of answers lost so far.
func (l *Lossy) Lost() int64 { return l.lost.Load() }

// Filter gives one connection's.
func (l *Lossy) Filter() Filter { return &lossy{l: l, asked: make(map[int32]asked)} }

type lossy struct {
	l       *Lossy
	in, out frames
	mu      sync.Mutex
	asked   map[int32]asked // by correlation id
}

// asked is a request whose answer is not to pass as it is.
type asked struct {
	key, version int16
}

var errLost = errors.New("lost")

func (c *lossy) Request(piece []byte) ([]byte, error) {
	var out []byte
	for _, m := range c.in.add(piece, sizeOfKafka) {
		key, version := int16(binary.BigEndian.Uint16(m[4:])), int16(binary.BigEndian.Uint16(m[6:]))
		lose := key == int16(kmsg.Produce) && c.l.produced.Add(1)%c.l.Every == 0
		if lose || key == int16(kmsg.DescribeConfigs) {
			c.mu.Lock()
			c.asked[int32(binary.BigEndian.Uint32(m[8:]))] = asked{key, version}
			c.mu.Unlock()
		}
		out = append(out, m...)
	}
	return out, nil
}

func (c *lossy) Answer(piece []byte) ([]byte, error) {
	var out []byte
	for _, m := range c.out.add(piece, sizeOfKafka) {
		id := int32(binary.BigEndian.Uint32(m[4:]))
		c.mu.Lock()
		a, known := c.asked[id]
		delete(c.asked, id)
		c.mu.Unlock()
		switch {
		case known && a.key == int16(kmsg.Produce):
			c.l.lost.Add(1)
			return out, errLost
		case known:
			var err error
			if m, err = c.l.describe(m, a.version); err != nil {
				return out, err
			}
		}
		out = append(out, m...)
	}
	return out, nil
}

// describe changes what an answer to DescribeConfigs says.
func (l *Lossy) describe(m []byte, version int16) ([]byte, error) {
	res := kmsg.NewPtrDescribeConfigsResponse()
	res.SetVersion(version)
	header := 8 // size and correlation id
	if res.IsFlexible() {
		header++ // no tags
	}
	if err := res.ReadFrom(m[header:]); err != nil {
		return nil, err
	}
	unbounded := strconv.Itoa(1<<31 - 1)
	for i := range res.Resources {
		for j := range res.Resources[i].Configs {
			if c := &res.Resources[i].Configs[j]; c.Name == l.Unbounded {
				c.Value = &unbounded
			}
		}
	}
	out := res.AppendTo(m[:header:header])
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out, nil
}

func sizeOfKafka(b []byte) int {
	if len(b) < 12 {
		return 0
	}
	return 4 + int(binary.BigEndian.Uint32(b))
}
