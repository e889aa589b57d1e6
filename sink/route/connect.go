package route

import (
	"errors"
	"strconv"
	"time"

	"github.com/outrider-relay/outrider/decoder"
)

// connectType is what a column is in Kafka Connect.
type connectType struct {
	kind    string // of Connect's schema types
	logical string // name of the schema, which says what the value stands for; empty: nothing
	// convert appends the value as text, of what Postgres prints. nil: it is the same.
	convert func(b, text []byte) ([]byte, error)
}

var (
	errNotHex    = errors.New("is a bytea that is not in hex format")
	errNotTime   = errors.New("holds no time that a record can carry")
	errNotNumber = errors.New("holds no number")
)

// plainTypes are those of columns where nobody is to be equalled: text is what Postgres prints, and numbers that Connect
// knows are numbers. All other types are text.
var plainTypes = map[uint32]connectType{
	oidBool:   {kind: "boolean", convert: convertBool},
	oidInt2:   {kind: "int16"},
	oidInt4:   {kind: "int32"},
	oidInt8:   {kind: "int64"},
	oidFloat4: {kind: "float"},
	oidFloat8: {kind: "double"},
	oidBytea:  {kind: "bytes", convert: appendHexBytes},
}

// debeziumTypes are what Debezium's connector for PostgreSQL makes of columns, with its default settings. What it makes of
// any other type is not known here, and would not be equalled by guessing.
var debeziumTypes = map[uint32]connectType{
	oidBool:        {kind: "boolean", convert: convertBool},
	oidInt2:        {kind: "int16"},
	oidInt4:        {kind: "int32"},
	oidInt8:        {kind: "int64"},
	oidFloat4:      {kind: "float", convert: convertFloat4},
	oidFloat8:      {kind: "double", convert: convertFloat8},
	oidText:        {kind: "string"},
	oidVarchar:     {kind: "string"},
	oidBPChar:      {kind: "string"},
	oidJSON:        {kind: "string", logical: "io.debezium.data.Json"},
	oidJSONB:       {kind: "string", logical: "io.debezium.data.Json"},
	oidUUID:        {kind: "string", logical: "io.debezium.data.Uuid"},
	oidBytea:       {kind: "bytes", convert: appendHexBytes},
	oidDate:        {kind: "int32", logical: "io.debezium.time.Date", convert: convertDate},
	oidTimestamp:   {kind: "int64", logical: "io.debezium.time.MicroTimestamp", convert: convertMicros},
	oidTimestamptz: {kind: "string", logical: "io.debezium.time.ZonedTimestamp", convert: convertZoned},
}

// millisType is a timestamp of at most three digits after the second.
var millisType = connectType{kind: "int64", logical: "io.debezium.time.Timestamp", convert: convertMillis}

// connectTypeOf gives the type of a column; ok is false where it is not known what Debezium makes of it.
func connectTypeOf(col *decoder.Column, debezium bool) (typ connectType, ok bool) {
	if !debezium {
		typ, ok = plainTypes[col.Type]
		if !ok {
			typ = connectType{kind: "string"}
		}
		return typ, true
	}
	if col.Type == oidTimestamp && col.Modifier >= 0 && col.Modifier <= 3 {
		return millisType, true
	}
	typ, ok = debeziumTypes[col.Type]
	return typ, ok
}

func convertBool(b, text []byte) ([]byte, error) {
	return strconv.AppendBool(b, string(text) == "t" || string(text) == "true"), nil
}

func convertFloat4(b, text []byte) ([]byte, error) { return convertFloat(b, text, 32) }
func convertFloat8(b, text []byte) ([]byte, error) { return convertFloat(b, text, 64) }

func convertFloat(b, text []byte, bits int) ([]byte, error) {
	f, err := strconv.ParseFloat(string(text), bits)
	if err != nil {
		return b, errNotNumber
	}
	return appendFloat(b, f, bits), nil
}

func convertDate(b, text []byte) ([]byte, error) {
	t, err := time.Parse(time.DateOnly, string(text))
	if err != nil {
		return b, errNotTime
	}
	return strconv.AppendInt(b, t.Unix()/int64(24*time.Hour/time.Second), 10), nil
}

func convertMicros(b, text []byte) ([]byte, error) {
	t, err := parseTime(text)
	return strconv.AppendInt(b, t.UnixMicro(), 10), err
}

func convertMillis(b, text []byte) ([]byte, error) {
	t, err := parseTime(text)
	return strconv.AppendInt(b, t.UnixMilli(), 10), err
}

func convertZoned(b, text []byte) ([]byte, error) {
	t, err := parseTime(text)
	return t.AppendFormat(b, time.RFC3339Nano), err
}

// parseTime reads a timestamp as Postgres prints it in ISO style, or as JSON usually has it. One without a time zone is in
// UTC. What lies outside the years 0 to 9999, infinity included, is an error.
func parseTime(text []byte) (time.Time, error) {
	for _, layout := range [...]string{"2006-01-02 15:04:05-07", "2006-01-02 15:04:05", time.RFC3339, "2006-01-02 15:04:05-07:00"} {
		if t, err := time.Parse(layout, string(text)); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errNotTime
}
