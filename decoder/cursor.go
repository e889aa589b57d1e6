package decoder

import (
	"bytes"
	"encoding/binary"
)

// cursor reads a message in place. What is wrong with the message is noted once, by whoever sees it first; after that every
// read gives zero, so that only a loop needs to look.
type cursor struct {
	rest  []byte // what has not been read
	wrong string // the first thing found wrong; empty as long as all is well
}

// short is what is wrong when a message ends within a field.
const short = "message is cut short"

// refuse notes what is wrong with the message.
func (c *cursor) refuse(why string) {
	if c.wrong == "" {
		c.wrong = why
	}
	c.rest = nil
}

// done reports whether all is well and nothing is left.
func (c *cursor) done() bool {
	if len(c.rest) > 0 {
		c.refuse("bytes after the end of the message")
	}
	return c.wrong == ""
}

// take reads n bytes. The capacity is cut too: appending to what it gives must not write into the message.
func (c *cursor) take(n uint32) []byte {
	if uint64(n) > uint64(len(c.rest)) {
		c.refuse(short)
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) uint8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if b := c.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// cstring reads up to a terminating zero, which it leaves out.
func (c *cursor) cstring() []byte {
	n := bytes.IndexByte(c.rest, 0)
	if n < 0 {
		c.refuse(short)
		return nil
	}
	s := c.rest[:n]
	c.rest = c.rest[n+1:]
	return s
}
