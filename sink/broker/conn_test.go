package broker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	_ "github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
	"github.com/twmb/franz-go/pkg/kfake"
)

// kafka is an in-process Kafka broker with a topic t of one partition.
func kafka(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, string) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "t")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, c.ListenAddrs()[0]
}

func TestPipelinedBatchesAreAppendedInTheOrderOfSending(t *testing.T) {
	_, addr := kafka(t)
	c := dial(t, addr, Config{ClientID: "test"})
	var set bytes.Buffer
	rs := protocol.RecordSet{Version: 2, Records: protocol.NewRecordReader(protocol.Record{Value: protocol.NewBytes([]byte("v"))})}
	if _, err := rs.WriteTo(&set); err != nil {
		t.Fatal(err)
	}
	const n = 500
	offsets := make(chan int64, n)
	for range n {
		c.Send(wire(set.Bytes()), func(msg protocol.Message, err error) {
			if err != nil {
				t.Error(err)
				offsets <- -1
				return
			}
			offsets <- msg.(*produce.Response).Topics[0].Partitions[0].BaseOffset
		})
	}
	for want := range int64(n) {
		if got := await(t, "answer", offsets); got != want {
			t.Fatalf("answer %d has offset %d", want, got)
		}
	}
}

func TestRequestsDoNotWaitForAnswers(t *testing.T) {
	addr := listen(t, nil, func(p played) {
		p.greet()
		var owed []request
		for len(owed) < 5 {
			r, ok := p.next()
			if !ok {
				return
			}
			owed = append(owed, r)
		}
		for i, r := range owed {
			p.answer(r, &metadata.Response{ControllerID: int32(i)})
		}
		p.gone()
	})
	c := dial(t, addr, Config{})
	var answers []<-chan result
	for range 5 {
		answers = append(answers, send(c, topics("t")))
	}
	for i, a := range answers {
		got := await(t, "answer", a)
		if got.err != nil || got.msg.(*metadata.Response).ControllerID != int32(i) {
			t.Errorf("request %d got %+v, %v", i, got.msg, got.err)
		}
	}
}

// A request of many of kafka-go's pages arrives whole.
func TestLargeRequestIsOneFrame(t *testing.T) {
	sizes := make(chan int, 8)
	addr := listen(t, nil, func(p played) {
		p.greet()
		for {
			r, ok := p.next()
			if !ok {
				return
			}
			sizes <- r.size
			p.answer(r, &produce.Response{})
		}
	})
	c := dial(t, addr, Config{})
	const overhead = 8 + 2 + 2 + 2 + 4 + 4 + 3 + 4 + 4 + 4 // header, ids, acks, time-out, counts, topic, partition, size of the set
	for _, size := range []int{1, 64<<10 - overhead - 4, 64<<10 - overhead, 3 << 20} {
		if got := await(t, "answer", send(c, batch(size))); got.err != nil {
			t.Fatal(got.err)
		}
		if got := <-sizes; got != overhead+size {
			t.Errorf("a set of %d bytes came in a frame of %d, want %d", size, got, overhead+size)
		}
	}
}

func TestSilentBrokerIsNoticedInTime(t *testing.T) {
	const timeout = 50 * time.Millisecond
	addr := listen(t, nil, func(p played) {
		p.greet()
		r, _ := p.next()
		p.answer(r, &metadata.Response{}) // the second is never answered, though the connection stays
		p.gone()
	})
	c := dial(t, addr, Config{Timeout: timeout})
	if got := await(t, "first answer", send(c, topics("a"))); got.err != nil {
		t.Fatal(got.err)
	}
	began := time.Now()
	second, third := send(c, topics("b")), send(c, topics("c"))
	for _, pending := range []<-chan result{second, third} {
		wantError(t, await(t, "time-out", pending).err, KindTimeout, "Metadata", "no answer within 50ms")
	}
	if took := time.Since(began); took < timeout {
		t.Errorf("gave up after %s", took)
	}
	await(t, "end", c.Done())
	wantError(t, c.Err(), KindTimeout)
	if IsPermanent(c.Err()) {
		t.Error("a time-out passes")
	}
}

// Each request has its own time, however many come before it, and an idle connection needs none.
func TestDeadlineIsThatOfTheOldestCall(t *testing.T) {
	const timeout = 300 * time.Millisecond
	release := make(chan struct{})
	addr := listen(t, nil, func(p played) {
		p.greet()
		for {
			r, ok := p.next()
			if !ok {
				return
			}
			<-release
			p.answer(r, &metadata.Response{})
		}
	})
	c := dial(t, addr, Config{Timeout: timeout})
	var answers []<-chan result
	for began := time.Now(); time.Since(began) < 2*timeout; { // answered one by one for longer than the time-out, never idle
		answers = append(answers, send(c, topics("t")))
		if len(answers) == 2 {
			release <- struct{}{}
			if got := await(t, "answer", answers[0]); got.err != nil {
				t.Fatal(got.err)
			}
			answers = answers[1:]
		}
	}
	close(release)
	await(t, "last answer", answers[0])
	select {
	case <-c.Done():
		t.Fatalf("an idle connection ended: %v", c.Err())
	case <-time.After(2 * timeout):
	}
	if got := await(t, "answer after idling", send(c, topics("t"))); got.err != nil {
		t.Error(got.err)
	}
}

func TestAnswerThatIsNoneEndsTheConnection(t *testing.T) {
	frame := func(bytes ...byte) func(request) []byte { return func(request) []byte { return bytes } }
	good := func(r request) []byte {
		var b bytes.Buffer
		_ = protocol.WriteResponse(&b, r.version, r.id, &metadata.Response{ClusterID: "c"})
		return b.Bytes()
	}
	for name, c := range map[string]struct {
		answer func(r request) []byte
		kind   Kind
		says   string
	}{
		"HTTP":        {frame([]byte("HTTP/1.1 400 Bad Request\r\n")...), KindGarbled, "is this a Kafka listener?"},
		"TLS alert":   {frame(0x15, 3, 3, 0, 2, 2, 70), KindGarbled, "TLS"},
		"no size":     {frame(0, 0, 0, 0), KindGarbled, "size of an answer"},
		"negative":    {frame(0xff, 0xff, 0xff, 0xff), KindGarbled, "size of an answer"},
		"other id":    {func(r request) []byte { b := good(r); b[7]++; return b }, KindGarbled, "was due"},
		"too long":    {func(r request) []byte { b := append(good(r), 0, 0); b[3] += 2; return b }, KindGarbled, ""},
		"too short":   {func(r request) []byte { b := good(r); b[3] -= 6; return b[:len(b)-6] }, KindGarbled, "cannot be decoded"},
		"cut":         {func(r request) []byte { b := good(r); return b[:len(b)-1] }, KindLost, "closed the connection"},
		"cut in head": {func(r request) []byte { return good(r)[:6] }, KindLost, "closed the connection"},
		"nothing":     {func(request) []byte { return nil }, KindLost, "want SASL?"},
		"twice":       {func(r request) []byte { return append(good(r), good(r)...) }, KindGarbled, "nothing was asked for"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := listen(t, nil, func(p played) {
				p.greet()
				if r, ok := p.next(); ok {
					_, _ = p.Write(c.answer(r))
				}
			})
			conn := dial(t, addr, Config{})
			got := await(t, "answer", send(conn, topics("t")))
			if got.err == nil && name != "twice" && name != "too long" {
				t.Errorf("taken for an answer: %+v", got.msg)
			}
			await(t, "end", conn.Done())
			if name == "too long" { // kafka-go skips what a newer broker may have added
				wantError(t, conn.Err(), KindLost)
				return
			}
			wantError(t, conn.Err(), c.kind, c.says)
		})
	}
}

// kafka-go's decoder panics over the length of such a tag.
func TestLengthThatMakesNoSenseIsNoPanic(t *testing.T) {
	answer := []byte{0, 0, 0, 16, 0, 0, 0, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}
	_, err := readAnswer(bufio.NewReader(bytes.NewReader(answer)), call{id: 1, key: protocol.InitProducerId, version: 4})
	var bad *garbledError
	if !errors.As(err, &bad) {
		t.Error(err)
	}
	if _, err := decode(&incoming{in: bufio.NewReader(bytes.NewReader(answer)), left: len(answer)}, call{key: protocol.InitProducerId, version: 4}); err == nil || !strings.Contains(err.Error(), "len out of range") {
		t.Errorf("the answer does not make kafka-go panic any more: %v", err)
	}
}

// A record set may claim more bytes than its answer has; the next answer's are not for it.
func TestDecodingStaysInsideItsAnswer(t *testing.T) {
	stream := bufio.NewReader(strings.NewReader("answernext"))
	body := incoming{in: stream, left: len("answer")}
	if head, err := body.Peek(3); string(head) != "ans" || err != nil {
		t.Errorf("peeked %q, %v", head, err)
	}
	if n, err := body.Discard(2); n != 2 || err != nil {
		t.Errorf("discarded %d, %v", n, err)
	}
	if _, err := body.Peek(5); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("peeked into the next answer: %v", err)
	}
	buf := make([]byte, 3)
	if n, err := body.Read(buf); string(buf[:n]) != "swe" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if n, err := body.Read(buf); string(buf[:n]) != "r" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if n, err := body.Read(buf); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes of the next answer, %v", n, err)
	}
	if n, err := body.Discard(2); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("discarded %d bytes of the next answer, %v", n, err)
	}
	if rest, _ := io.ReadAll(stream); string(rest) != "next" || body.err != nil {
		t.Errorf("left for the next answer: %q, %v", rest, body.err)
	}
}

// stuck starts to send more than sockets buffer to a peer that stops reading, and returns when the write has begun.
func stuck(t *testing.T, timeout time.Duration) (*Conn, <-chan result) {
	t.Helper()
	began := make(chan struct{})
	addr := listen(t, nil, func(p played) {
		p.greet()
		_, _ = io.ReadFull(p, make([]byte, 1))
		close(began)
		<-t.Context().Done()
	})
	c := dial(t, addr, Config{Timeout: timeout})
	answered := make(chan result, 2)
	go c.Send(batch(64<<20), func(msg protocol.Message, err error) { answered <- result{msg, err} })
	await(t, "write", began)
	return c, answered
}

func TestBrokerThatStopsReadingIsNoticedInTime(t *testing.T) {
	c, answered := stuck(t, 200*time.Millisecond)
	wantError(t, await(t, "answer", answered).err, KindTimeout, "write Produce")
	await(t, "end", c.Done())
}

func TestCloseInterruptsAWrite(t *testing.T) {
	c, answered := stuck(t, time.Hour)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	select {
	case got := <-answered:
		wantError(t, got.err, KindClosed)
	default:
		t.Error("Close returned before every call was answered")
	}
	if !errors.Is(c.Err(), net.ErrClosed) {
		t.Error(c.Err())
	}
}

func TestEveryCallIsAnsweredOnceWhenTheConnectionEnds(t *testing.T) {
	addr := listen(t, nil, func(p played) {
		p.greet()
		for range 20 {
			r, ok := p.next()
			if !ok {
				return
			}
			p.answer(r, &metadata.Response{})
		}
		_ = p.Conn.(*net.TCPConn).CloseWrite() // unlike Close, it does not take answers back that were not read yet
		p.gone()
	})
	c := dial(t, addr, Config{})
	var sent, answered, failed atomic.Int64
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for after := 0; after < 3; { // some more once it has ended
				var calls atomic.Int32
				sent.Add(1)
				c.Send(topics("t"), func(msg protocol.Message, err error) {
					if calls.Add(1) > 1 {
						t.Error("answered twice")
					}
					if answered.Add(1); err != nil {
						failed.Add(1)
					}
				})
				if c.Err() != nil {
					after++
				}
			}
		})
	}
	senders.Wait()
	await(t, "end", c.Done())
	if s, a := sent.Load(), answered.Load(); s != a {
		t.Errorf("%d calls, %d answers", s, a)
	}
	if ok := answered.Load() - failed.Load(); ok != 20 {
		t.Errorf("%d calls were answered by the broker, which answered 20", ok)
	}
	if got := await(t, "a call after the end", send(c, topics("t"))); got.err == nil || !errors.Is(got.err, c.Err()) {
		t.Errorf("a call after the end: %v, want %v", got.err, c.Err())
	}
}

func TestContextEndsTheWaitAndNotTheConnection(t *testing.T) {
	release := make(chan struct{})
	addr := listen(t, nil, func(p played) {
		p.greet()
		for i := int32(1); ; i++ {
			r, ok := p.next()
			if !ok {
				return
			}
			<-release
			p.answer(r, &metadata.Response{ControllerID: i})
		}
	})
	c := dial(t, addr, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := c.Do(ctx, topics("first")); !errors.Is(err, context.Canceled) {
		t.Fatalf("the wait ended with %v", err)
	}
	close(release)
	msg, err := c.Do(t.Context(), topics("second"))
	if err != nil {
		t.Fatal(err)
	}
	if got := msg.(*metadata.Response).ControllerID; got != 2 {
		t.Errorf("the second call got the answer to call %d", got)
	}
	if _, err := c.Do(ctx, topics("third")); !errors.Is(err, context.Canceled) {
		t.Errorf("a call whose context had ended: %v", err)
	}
}

// A raw answer is the bytes that a decoded one is made of, and takes nothing of the next.
func TestRawAnswerIsWhatFollowsItsHeader(t *testing.T) {
	answers := func(p played) {
		p.greet()
		for i := int32(1); ; i++ {
			r, ok := p.next()
			if !ok {
				return
			}
			p.answer(r, &metadata.Response{ControllerID: i})
		}
	}
	c := dial(t, listen(t, nil, answers), Config{})
	for i := int32(1); i < 9; i += 2 {
		raw, err := c.DoRaw(t.Context(), topics("raw"))
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := protocol.WriteResponse(&want, raw.Version, 0, &metadata.Response{ControllerID: i}); err != nil {
			t.Fatal(err)
		}
		if raw.ApiKey() != protocol.Metadata || !bytes.Equal(raw.Body, want.Bytes()[8:]) {
			t.Fatalf("%s: % x, not % x", raw.ApiKey(), raw.Body, want.Bytes()[8:])
		}
		msg, err := c.Do(t.Context(), topics("decoded"))
		if err != nil {
			t.Fatal(err)
		}
		if got := msg.(*metadata.Response).ControllerID; got != i+1 {
			t.Fatalf("the answer behind raw answer %d is %d", i, got)
		}
	}
	cut := dial(t, listen(t, nil, func(p played) {
		p.greet()
		r, _ := p.next()
		_, _ = p.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 99}, uint32(r.id)))
	}), Config{})
	_, err := cut.DoRaw(t.Context(), topics("cut"))
	wantError(t, err, KindLost, "closed the connection")
}

func TestRequestThatCannotBeSentLeavesTheConnectionUsable(t *testing.T) {
	_, addr := kafka(t)
	c := dial(t, addr, Config{})
	delete(c.versions, protocol.ListOffsets) // as if the broker had not offered it
	noRecords := wire(nil)
	noRecords.Topics[0].Partitions[0].RecordSet.Reader = nil
	for name, req := range map[string]protocol.Message{
		"no record set":   noRecords,
		"no answer":       &rawproduce.Request{Acks: 0},
		"API not offered": &listoffsets.Request{},
	} {
		if got := await(t, name, send(c, req)); got.err == nil {
			t.Errorf("%s: sent", name)
		}
	}
	if _, err := c.Do(t.Context(), topics("t")); err != nil {
		t.Error(err)
	}
	_, err := c.Do(t.Context(), &listoffsets.Request{})
	wantError(t, err, KindVersion, "ListOffsets", "does not offer")
}
