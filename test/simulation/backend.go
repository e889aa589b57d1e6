package simulation

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// backend is a server process: an ordinary one, or a walsender.
type backend struct {
	*pgproto3.Backend
	conn
	s     *server
	pid   uint32
	types *pgtype.Map

	statements map[string]*statement
	portal     *statement
	args       []any
	formats    []int16
	failed     bool // until the next Sync

	// A walsender's.
	walsender  bool
	slot       *slot
	news       chan struct{}
	mu         sync.Mutex // guards the rest
	replied    time.Time  // when the client reported last
	flushed    lsn
	written    lsn
	askedReply bool // the client asked for one
}

// typeMaps are used again: to make one takes longer than all that a connection does.
var typeMaps = sync.Pool{New: func() any { return pgtype.NewMap() }}

// accept takes a connection, unless the server is down.
func (s *server) accept(c conn) (serve func(), ok bool) {
	if s.is(down) {
		return nil, false
	}
	b := &backend{Backend: pgproto3.NewBackend(c, c), conn: c, s: s, statements: make(map[string]*statement), news: make(chan struct{}, 1)}
	return b.serve, true
}

// serve goes through the start of a connection, and then takes messages until it ends.
func (b *backend) serve() {
	defer func() { _ = b.conn.Close() }()
	first, err := b.ReceiveStartupMessage()
	if err != nil {
		return
	}
	startup, ok := first.(*pgproto3.StartupMessage)
	if !ok {
		return // a request to cancel
	}
	if !b.s.is(running) {
		b.terminate("57P03", "the database system is shutting down")
		return
	}
	if b.s.full.Load() {
		b.terminate("53300", "sorry, too many clients already")
		return
	}
	b.walsender = startup.Parameters["replication"] != ""
	b.types = typeMaps.Get().(*pgtype.Map)
	defer typeMaps.Put(b.types)
	b.s.enter(b)
	defer b.s.leave(b)
	defer b.s.journey.end(b.process, b.pid)
	b.Send(&pgproto3.AuthenticationOk{})
	for name, value := range map[string]string{"server_version": "18.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"} {
		b.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	b.Send(&pgproto3.BackendKeyData{ProcessID: b.pid, SecretKey: []byte{1, 2, 3, 4}})
	b.ready()
	for {
		message, err := b.Receive()
		if err != nil {
			return
		}
		if done := b.take(message); done {
			return
		}
	}
}

func (b *backend) ready() {
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	_ = b.Flush() // a connection that ended says so at the next read
}

// terminate ends the connection with an error that says why.
func (b *backend) terminate(code, message string) {
	wire, err := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: message, Routine: "ProcessInterrupts"}).Encode(nil)
	if err != nil {
		panic(err)
	}
	_, _ = b.conn.Write(wire)
	_ = b.conn.Close()
}

// pgError is what a statement fails with.
type pgError struct{ code, message, routine string }

func (e *pgError) Error() string { return e.message }

func (b *backend) refuse(err error) {
	e := &pgError{code: "XX000", message: err.Error()}
	errors.As(err, &e)
	b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: e.code, Message: e.message, Routine: e.routine})
	b.failed = true
}

// take handles one message of the client (PostgreSQL docs, "Message Flow").
func (b *backend) take(message pgproto3.FrontendMessage) (done bool) {
	if _, sync := message.(*pgproto3.Sync); b.failed && !sync {
		return false
	}
	switch m := message.(type) {
	case *pgproto3.Query:
		return b.command(m.String)
	case *pgproto3.Parse:
		if err := b.parse(m.Name, m.Query); err != nil {
			b.refuse(err)
		}
	case *pgproto3.Describe:
		b.describe(m)
	case *pgproto3.Bind:
		if err := b.bind(m); err != nil {
			b.refuse(err)
		}
	case *pgproto3.Execute:
		if err := b.execute(); err != nil {
			b.refuse(err)
		}
	case *pgproto3.Close:
		b.Send(&pgproto3.CloseComplete{})
	case *pgproto3.Sync:
		b.failed = false
		b.ready()
	case *pgproto3.Terminate:
		return true
	default:
		panic("the model takes no such message")
	}
	return false
}

func (b *backend) parse(name, sql string) error {
	st := statementOf(sql)
	if st == nil {
		b.s.unknown(sql)
		return &pgError{"42601", "the model knows no such statement: " + sql, "model"}
	}
	b.statements[name] = st
	b.Send(&pgproto3.ParseComplete{})
	return nil
}

func (b *backend) describe(m *pgproto3.Describe) {
	st, formats := b.portal, b.formats
	if m.ObjectType == 'S' {
		st, formats = b.statements[m.Name], nil
		b.Send(&pgproto3.ParameterDescription{ParameterOIDs: st.params})
	}
	if len(st.columns) == 0 {
		b.Send(&pgproto3.NoData{})
		return
	}
	description := &pgproto3.RowDescription{}
	for i, oid := range st.columns {
		description.Fields = append(description.Fields, pgproto3.FieldDescription{Name: []byte("c"), DataTypeOID: oid, DataTypeSize: -1, TypeModifier: -1, Format: formatOf(formats, i)})
	}
	b.Send(description)
}

// formatOf is the format of the i-th value: one for all, or one each; text where none is said.
func formatOf(formats []int16, i int) int16 {
	switch len(formats) {
	case 0:
		return pgtype.TextFormatCode
	case 1:
		return formats[0]
	}
	return formats[i]
}

func (b *backend) bind(m *pgproto3.Bind) error {
	b.portal = b.statements[m.PreparedStatement]
	b.formats = append([]int16(nil), m.ResultFormatCodes...)
	b.args = make([]any, len(m.Parameters))
	for i, p := range m.Parameters {
		v, err := b.value(b.portal.params[i], formatOf(m.ParameterFormatCodes, i), p)
		if err != nil {
			return err
		}
		b.args[i] = v
	}
	b.Send(&pgproto3.BindComplete{})
	return nil
}

// value reads a parameter.
func (b *backend) value(oid uint32, format int16, src []byte) (any, error) {
	if src == nil {
		return nil, nil
	}
	scan := func(to any) error { return b.types.Scan(oid, format, src, to) }
	switch oid {
	case pgtype.TextOID, pgtype.NameOID:
		return string(src), nil
	case pgtype.JSONBOID:
		if format == pgtype.BinaryFormatCode {
			src = src[1:] // the format's version
		}
		return append([]byte(nil), src...), nil
	case pgtype.Int4OID, pgtype.Int8OID:
		var v int64
		err := scan(&v)
		return v, err
	case pgtype.BoolOID:
		var v bool
		err := scan(&v)
		return v, err
	case pgtype.TextArrayOID:
		var v []string
		err := scan(&v)
		return v, err
	case pgtype.Int4ArrayOID, pgtype.Int8ArrayOID:
		var v []int64
		err := scan(&v)
		return v, err
	case pgtype.BoolArrayOID:
		var v []bool
		err := scan(&v)
		return v, err
	}
	panic("the model knows no such type")
}

// execute runs the statement at one instant, which makes it a transaction.
func (b *backend) execute() error {
	b.s.mu.Lock()
	if b.s.backends[b.pid] != b {
		b.s.mu.Unlock()
		return net.ErrClosed // the server went down first
	}
	rows, tag, err := b.portal.run(b, b.args)
	b.s.mu.Unlock()
	if err != nil {
		return err
	}
	for _, r := range rows {
		answer := &pgproto3.DataRow{Values: make([][]byte, len(r))}
		for i, v := range r {
			if v == nil {
				continue
			}
			encoded, err := b.types.Encode(b.portal.columns[i], formatOf(b.formats, i), v, []byte{})
			if err != nil {
				return err
			}
			answer.Values[i] = encoded
		}
		b.Send(answer)
	}
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
	return nil
}

// answer is the result of a simple query: one row of text.
func (b *backend) answer(names []string, values ...string) {
	description, row := &pgproto3.RowDescription{}, &pgproto3.DataRow{}
	for i, v := range values {
		description.Fields = append(description.Fields, pgproto3.FieldDescription{Name: []byte(names[i]), DataTypeOID: pgtype.TextOID, DataTypeSize: -1, TypeModifier: -1})
		row.Values = append(row.Values, []byte(v))
	}
	b.Send(description)
	b.Send(row)
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	b.ready()
}

// tell wakes a walsender.
func (b *backend) tell() {
	select {
	case b.news <- struct{}{}:
	default:
	}
}
