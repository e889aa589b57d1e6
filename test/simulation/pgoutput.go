package simulation

import (
	"encoding/binary"
	"fmt"
	"time"
)

// The messages of pgoutput, protocol 1 (PostgreSQL docs, "Logical Replication Message Formats").

const outboxOID = 16400

// micros is a time as Postgres counts it: since 2000-01-01.
func micros(t time.Time) uint64 {
	return uint64(t.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds())
}

func beginMessage(c *commit) []byte {
	be := binary.BigEndian
	b := be.AppendUint64([]byte{'B'}, uint64(c.lsn))
	b = be.AppendUint64(b, micros(c.at))
	return be.AppendUint32(b, 700)
}

func commitMessage(c *commit) []byte {
	be := binary.BigEndian
	b := be.AppendUint64([]byte{'C', 0}, uint64(c.lsn))
	b = be.AppendUint64(b, uint64(c.end))
	return be.AppendUint64(b, micros(c.at))
}

func relationMessage() []byte {
	be := binary.BigEndian
	b := be.AppendUint32([]byte{'R'}, outboxOID)
	b = append(b, "public\x00outbox\x00d"...)
	b = be.AppendUint16(b, uint16(len(outbox)))
	for i, c := range outbox {
		key := byte(0)
		if i == 0 {
			key = 1
		}
		b = append(append(append(b, key), c.name...), 0)
		b = be.AppendUint32(b, c.oid)
		b = be.AppendUint32(b, ^uint32(0))
	}
	return b
}

func insertMessage(e event, at time.Time) []byte {
	be := binary.BigEndian
	b := be.AppendUint32(append(make([]byte, 0, 256), 'I'), outboxOID)
	b = be.AppendUint16(append(b, 'N'), uint16(len(outbox)))
	payload := fmt.Sprintf(`{"version": %d}`, e.version)
	if e.poison {
		payload = poisonMark
	}
	values := []string{e.id, e.kind, e.key, "Changed", payload, "{}", at.Format("2006-01-02 15:04:05.999999-07")}
	for _, v := range values {
		b = be.AppendUint32(append(b, 't'), uint32(len(v)))
		b = append(b, v...)
	}
	return b
}
