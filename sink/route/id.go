package route

import (
	"errors"

	"github.com/buger/jsonparser"

	"github.com/outrider-relay/outrider/decoder"
)

// EventID is the id that the event's record carries; nil when it has none.
func (r *Router) EventID(e *decoder.Event) ([]byte, error) {
	e, p, err := r.row(e)
	if u := (*Unroutable)(nil); errors.As(err, &u) {
		err = nil // what cannot be read may have an id all the same
	}
	if err != nil || p.id < 0 || e.Values[p.id].Format == decoder.Null {
		return nil, err
	}
	return PlainID(e.Values[p.id].Data), nil
}

// PlainID gives the text of an id header, in whatever format a record has it: events are told apart by it, also those that
// were written under other settings.
func PlainID(header []byte) []byte {
	for {
		inner, quoted := unquoteID(header)
		if !quoted {
			return header
		}
		header = inner // which may look like that itself: an id's own quotes must make no difference
	}
}

// unquoteID takes one layer of JSON off an id.
func unquoteID(id []byte) (inner []byte, quoted bool) {
	value, kind, _, err := jsonparser.Get(id)
	if err == nil && kind == jsonparser.Object {
		if value, kind, _, err = jsonparser.Get(id, "payload"); err == nil && kind == jsonparser.Number {
			return value, true
		}
	}
	if err != nil || kind != jsonparser.String {
		return nil, false
	}
	text, err := jsonparser.Unescape(value, nil)
	return text, err == nil
}
