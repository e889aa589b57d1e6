package harness

import (
	"encoding/binary"
	"sync"
)

// Hold is a network between Kafka brokers that can keep requests of one kind waiting, and with them what comes behind them on
// the same connection. It lets everything pass until it is told to begin.
type Hold struct {
	key int16 // of the requests

	mu   sync.Mutex
	ends chan struct{} // closed when what waits may go on; nil: nothing has to
}

// NewHold makes one for requests of an API, by its key.
func NewHold(key int16) *Hold { return &Hold{key: key} }

// Begin lets requests wait from now on.
func (h *Hold) Begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ends == nil {
		h.ends = make(chan struct{})
	}
}

// End lets them go on.
func (h *Hold) End() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ends != nil {
		close(h.ends)
		h.ends = nil
	}
}

// wait returns when requests may pass.
func (h *Hold) wait() {
	h.mu.Lock()
	ends := h.ends
	h.mu.Unlock()
	if ends != nil {
		<-ends
	}
}

// Filter gives one connection's. Connections that were there before it are not held.
func (h *Hold) Filter() Filter { return &held{h: h} }

type held struct {
	frames
	h *Hold
}

func (f *held) Request(piece []byte) ([]byte, error) {
	var out []byte
	for _, m := range f.add(piece, sizeOfKafka) {
		if int16(binary.BigEndian.Uint16(m[4:])) == f.h.key {
			f.h.wait()
		}
		out = append(out, m...)
	}
	return out, nil
}

func (f *held) Answer(piece []byte) ([]byte, error) { return piece, nil }
