package decoder

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
)

// encode writes the message that pglogrepl has read, or that a test has made up, as pgoutput would.
func encode(m pglogrepl.Message) []byte {
	be := binary.BigEndian
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		b := be.AppendUint64([]byte{'B'}, uint64(m.FinalLSN))
		b = be.AppendUint64(b, postgresMicros(m.CommitTime))
		return be.AppendUint32(b, m.Xid)
	case *pglogrepl.CommitMessage:
		b := be.AppendUint64([]byte{'C', m.Flags}, uint64(m.CommitLSN))
		b = be.AppendUint64(b, uint64(m.TransactionEndLSN))
		return be.AppendUint64(b, postgresMicros(m.CommitTime))
	case *pglogrepl.OriginMessage:
		b := be.AppendUint64([]byte{'O'}, uint64(m.CommitLSN))
		return appendCString(b, m.Name)
	case *pglogrepl.TypeMessage:
		b := be.AppendUint32([]byte{'Y'}, m.DataType)
		return appendCString(appendCString(b, m.Namespace), m.Name)
	case *pglogrepl.RelationMessage:
		b := be.AppendUint32([]byte{'R'}, m.RelationID)
		b = appendCString(appendCString(b, m.Namespace), m.RelationName)
		b = append(b, m.ReplicaIdentity)
		b = be.AppendUint16(b, uint16(len(m.Columns)))
		for _, c := range m.Columns {
			b = appendCString(append(b, c.Flags), c.Name)
			b = be.AppendUint32(b, c.DataType)
			b = be.AppendUint32(b, uint32(c.TypeModifier))
		}
		return b
	case *pglogrepl.InsertMessage:
		b := be.AppendUint32([]byte{'I'}, m.RelationID)
		return appendTuple(b, 'N', m.Tuple)
	case *pglogrepl.UpdateMessage:
		b := be.AppendUint32([]byte{'U'}, m.RelationID)
		if m.OldTuple != nil {
			b = appendTuple(b, m.OldTupleType, m.OldTuple)
		}
		return appendTuple(b, 'N', m.NewTuple)
	case *pglogrepl.DeleteMessage:
		b := be.AppendUint32([]byte{'D'}, m.RelationID)
		return appendTuple(b, m.OldTupleType, m.OldTuple)
	case *pglogrepl.TruncateMessage:
		b := be.AppendUint32([]byte{'T'}, uint32(len(m.RelationIDs)))
		b = append(b, m.Option)
		for _, id := range m.RelationIDs {
			b = be.AppendUint32(b, id)
		}
		return b
	case *pglogrepl.LogicalDecodingMessage:
		b := []byte{'M', 0}
		if m.Transactional {
			b[1] = 1
		}
		b = be.AppendUint64(b, uint64(m.LSN))
		b = appendCString(b, m.Prefix)
		b = be.AppendUint32(b, uint32(len(m.Content)))
		return append(b, m.Content...)
	}
	panic(fmt.Sprintf("no encoding for %T", m))
}

func appendCString(b []byte, s string) []byte {
	return append(append(b, s...), 0)
}

func appendTuple(b []byte, kind byte, t *pglogrepl.TupleData) []byte {
	b = binary.BigEndian.AppendUint16(append(b, kind), uint16(len(t.Columns)))
	for _, c := range t.Columns {
		b = append(b, c.DataType)
		if c.DataType == 't' || c.DataType == 'b' {
			b = binary.BigEndian.AppendUint32(b, uint32(len(c.Data)))
			b = append(b, c.Data...)
		}
	}
	return b
}

func postgresMicros(t time.Time) uint64 {
	return uint64(t.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds())
}

// The messages below are what the tests are written in.

func begin(lsn pglogrepl.LSN) []byte {
	return encode(&pglogrepl.BeginMessage{FinalLSN: lsn, CommitTime: noon, Xid: 700})
}

func commit(lsn pglogrepl.LSN) []byte {
	return encode(&pglogrepl.CommitMessage{CommitLSN: lsn, TransactionEndLSN: lsn + 0x30, CommitTime: noon})
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 123456000, time.UTC)

// relation describes public.<name> with columns of type text.
func relation(id uint32, name string, columns ...string) []byte {
	m := &pglogrepl.RelationMessage{RelationID: id, Namespace: "public", RelationName: name, ReplicaIdentity: 'd'}
	for i, c := range columns {
		column := &pglogrepl.RelationMessageColumn{Name: c, DataType: 25, TypeModifier: -1}
		if i == 0 {
			column.Flags = 1
		}
		m.Columns = append(m.Columns, column)
	}
	return encode(m)
}

func insert(id uint32, values ...string) []byte {
	return encode(&pglogrepl.InsertMessage{RelationID: id, Tuple: tuple(values...)})
}

// tuple makes a row of text values; the values NULL and UNCHANGED stand for what they say.
func tuple(values ...string) *pglogrepl.TupleData {
	t := &pglogrepl.TupleData{}
	for _, v := range values {
		c := &pglogrepl.TupleDataColumn{DataType: 't', Data: []byte(v)}
		switch v {
		case "NULL":
			c = &pglogrepl.TupleDataColumn{DataType: 'n'}
		case "UNCHANGED":
			c = &pglogrepl.TupleDataColumn{DataType: 'u'}
		}
		t.Columns = append(t.Columns, c)
	}
	return t
}

func logicalMessage(transactional bool, prefix, content string) []byte {
	return encode(&pglogrepl.LogicalDecodingMessage{Transactional: transactional, LSN: 0x50, Prefix: prefix, Content: []byte(content)})
}

func concat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}
