package route

import (
	"bytes"
	"math"
	"strconv"
)

// appendQuoted appends s as a JSON string, as Jackson writes one, and with it the converters of Kafka Connect: text stays
// UTF-8, and only what must be escaped is.
func appendQuoted(b, s []byte) []byte {
	const digits = "0123456789ABCDEF"
	b = append(b, '"')
	from := 0
	for i, c := range s {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\t':
			b = append(b, `\t`...)
		case '\n':
			b = append(b, `\n`...)
		case '\f':
			b = append(b, `\f`...)
		case '\r':
			b = append(b, `\r`...)
		default:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xF])
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// appendFloat appends f as Java's Double.toString, or Float.toString for 32 bits, writes it.
func appendFloat(b []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	}
	from := len(b)
	if size := math.Abs(f); f == 0 || size >= 1e-3 && size < 1e7 {
		b = strconv.AppendFloat(b, f, 'f', -1, bits)
		if bytes.IndexByte(b[from:], '.') < 0 {
			b = append(b, ".0"...)
		}
		return b
	}
	var buffer [32]byte
	text := strconv.AppendFloat(buffer[:0], f, 'e', -1, bits)
	if bytes.IndexByte(text, '.') < 0 { // Java writes two digits at least, and lets the second one count
		text = strconv.AppendFloat(buffer[:0], f, 'e', 1, bits)
	}
	mantissa, exponent, _ := bytes.Cut(text, []byte("e"))
	b = append(b, mantissa...)
	b = append(b, 'E')
	if exponent[0] == '-' {
		b = append(b, '-')
	}
	return append(b, bytes.TrimLeft(exponent[1:], "0")...)
}
