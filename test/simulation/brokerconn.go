package simulation

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// brokerConn serves one connection to a broker: one request at a time, as brokers do.
type brokerConn struct {
	k  *cluster
	id int32
	conn
	in, out []byte // a request and an answer, used again for the next
}

func (b *brokerConn) serve() {
	defer func() { _ = b.Close() }()
	for {
		req, correlation, err := b.request()
		if err != nil {
			return
		}
		answer := b.handle(req)
		if answer == nil {
			return // the connection ends without an answer
		}
		if b.answer(answer, correlation) != nil {
			return
		}
	}
}

// request reads a request and its header (Kafka protocol guide, "Request Header").
func (b *brokerConn) request() (kmsg.Request, int32, error) {
	be := binary.BigEndian
	b.in = slices.Grow(b.in[:0], 4)
	if _, err := io.ReadFull(b, b.in[:4]); err != nil {
		return nil, 0, err
	}
	size := int(be.Uint32(b.in[:4]))
	b.in = slices.Grow(b.in, size)
	body := b.in[:size]
	if _, err := io.ReadFull(b, body); err != nil {
		return nil, 0, err
	}
	key, version, correlation := int16(be.Uint16(body)), int16(be.Uint16(body[2:])), int32(be.Uint32(body[4:]))
	req := kmsg.RequestForKey(key)
	if req == nil {
		return nil, 0, fmt.Errorf("no request has key %d", key)
	}
	req.SetVersion(version)
	client := max(0, int(int16(be.Uint16(body[8:]))))
	body = body[10+client:]
	if req.IsFlexible() {
		body = body[1:] // no tags
	}
	return req, correlation, req.ReadFrom(body)
}

// answer sends one.
func (b *brokerConn) answer(answer kmsg.Response, correlation int32) error {
	b.out = binary.BigEndian.AppendUint32(append(b.out[:0], 0, 0, 0, 0), uint32(correlation))
	if answer.IsFlexible() && answer.Key() != int16(kmsg.ApiVersions) {
		b.out = append(b.out, 0)
	}
	b.out = answer.AppendTo(b.out)
	binary.BigEndian.PutUint32(b.out, uint32(len(b.out)-4))
	_, err := b.Write(b.out)
	return err
}

// handle answers a request; nil ends the connection.
func (b *brokerConn) handle(req kmsg.Request) kmsg.Response {
	b.k.mu.Lock()
	slow := b.k.chance(b.k.weather.slow)
	pause := time.Duration(b.k.rng.IntN(500)) * time.Microsecond
	if _, produce := req.(*kmsg.ProduceRequest); slow || produce && b.k.sluggish {
		pause = time.Duration(b.k.rng.IntN(1000)) * time.Millisecond
	}
	b.k.mu.Unlock()
	time.Sleep(pause)
	if fetch, ok := req.(*kmsg.FetchRequest); ok {
		return b.fetch(fetch)
	}
	b.k.mu.Lock()
	defer b.k.mu.Unlock()
	if !b.k.up[b.id] {
		return nil
	}
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		return b.k.versions(req)
	case *kmsg.MetadataRequest:
		return b.k.metadata(req)
	case *kmsg.ProduceRequest:
		return b.produce(req)
	case *kmsg.ListOffsetsRequest:
		return b.offsets(req)
	case *kmsg.FindCoordinatorRequest:
		return b.k.find(req)
	case *kmsg.InitProducerIDRequest:
		return b.initProducer(req)
	case *kmsg.AddPartitionsToTxnRequest:
		return b.addPartitions(req)
	case *kmsg.EndTxnRequest:
		return b.endTxn(req)
	case *kmsg.DescribeConfigsRequest:
		return b.k.configs(req)
	}
	panic(fmt.Sprintf("the model knows no %T", req))
}

// spoken are the versions that the model offers: those of Kafka 4.
var spoken = map[kmsg.Key][2]int16{
	kmsg.Produce: {3, 8}, kmsg.Fetch: {4, 11}, kmsg.ListOffsets: {1, 5}, kmsg.Metadata: {0, 8}, kmsg.FindCoordinator: {0, 2},
	kmsg.InitProducerID: {0, 4}, kmsg.AddPartitionsToTxn: {0, 3}, kmsg.EndTxn: {0, 3}, kmsg.CreateTopics: {2, 5},
	kmsg.DescribeConfigs: {1, 4}, kmsg.ApiVersions: {0, 3}, kmsg.SASLHandshake: {0, 1}, kmsg.SASLAuthenticate: {0, 2},
}

func (k *cluster) versions(req *kmsg.ApiVersionsRequest) kmsg.Response {
	answer := req.ResponseKind().(*kmsg.ApiVersionsResponse)
	for key, v := range spoken {
		answer.ApiKeys = append(answer.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: int16(key), MinVersion: v[0], MaxVersion: v[1]})
	}
	return answer
}

func (k *cluster) metadata(req *kmsg.MetadataRequest) kmsg.Response {
	answer := req.ResponseKind().(*kmsg.MetadataResponse)
	answer.ClusterID, answer.ControllerID = &k.id, k.home()
	for id := int32(1); int(id) < len(k.up); id++ {
		if k.up[id] {
			answer.Brokers = append(answer.Brokers, kmsg.MetadataResponseBroker{NodeID: id, Host: fmt.Sprintf("broker%d", id), Port: 9092})
		}
	}
	for _, asked := range req.Topics {
		t := kmsg.MetadataResponseTopic{Topic: asked.Topic}
		n, known := k.topics[*asked.Topic]
		switch {
		case *asked.Topic == k.forbidden:
			t.ErrorCode, n = topicForbidden, 0
		case !known:
			t.ErrorCode = unknownTopic
		}
		for i := range n {
			p := k.partitions[place{*asked.Topic, i}]
			described := kmsg.MetadataResponseTopicPartition{Partition: i, Leader: p.leader, LeaderEpoch: p.epoch}
			if p.leader < 0 {
				described.ErrorCode = leaderNotAvailable
			}
			t.Partitions = append(t.Partitions, described)
		}
		answer.Topics = append(answer.Topics, t)
	}
	return answer
}

func (b *brokerConn) offsets(req *kmsg.ListOffsetsRequest) kmsg.Response {
	answer := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, asked := range req.Topics {
		t := kmsg.ListOffsetsResponseTopic{Topic: asked.Topic}
		for _, a := range asked.Partitions {
			p, code := b.led(place{asked.Topic, a.Partition})
			found := kmsg.ListOffsetsResponseTopicPartition{Partition: a.Partition, ErrorCode: code, Offset: -1, Timestamp: -1, LeaderEpoch: -1}
			if code == none {
				if found.Offset = p.start; a.Timestamp == -1 {
					found.Offset = p.end
				}
			}
			t.Partitions = append(t.Partitions, found)
		}
		answer.Topics = append(answer.Topics, t)
	}
	return answer
}

// led gives a partition that this broker leads.
func (b *brokerConn) led(at place) (*partition, int16) {
	p := b.k.partitions[at]
	switch {
	case at.topic == b.k.forbidden:
		return nil, topicForbidden
	case p == nil:
		return nil, unknownTopic
	case p.leader != b.id:
		return nil, notLeader
	}
	return p, none
}

func (k *cluster) find(req *kmsg.FindCoordinatorRequest) kmsg.Response {
	answer := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	answer.NodeID = k.home()
	answer.Host, answer.Port = fmt.Sprintf("broker%d", answer.NodeID), 9092
	return answer
}

// coordinating says whether this broker may answer for the coordinator.
func (b *brokerConn) coordinating() int16 {
	switch {
	case b.k.home() != b.id:
		return notCoordinator
	case b.k.chance(b.k.weather.loading):
		return coordinatorLoading
	}
	return none
}

func (b *brokerConn) initProducer(req *kmsg.InitProducerIDRequest) kmsg.Response {
	answer := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	if req.TransactionalID == nil {
		answer.ProducerID = b.k.txns.newProducer()
		b.k.produces(answer.ProducerID)
		b.k.reached(b.process, producing)
		return answer
	}
	if answer.ErrorCode = b.coordinating(); answer.ErrorCode == none {
		answer.ErrorCode, answer.ProducerID, answer.ProducerEpoch = b.k.txns.init(*req.TransactionalID, time.Duration(req.TransactionTimeoutMillis)*time.Millisecond)
	}
	if answer.ErrorCode == none {
		b.k.reached(b.process, producing)
	}
	return answer
}

func (b *brokerConn) addPartitions(req *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	answer := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	var places []place
	refused := make(map[place]int16)
	for _, t := range req.Topics {
		for _, id := range t.Partitions {
			at := place{t.Topic, id}
			places = append(places, at)
			switch {
			case t.Topic == b.k.forbidden:
				refused[at] = topicForbidden
			case b.k.partitions[at] == nil:
				refused[at] = unknownTopic
			}
		}
	}
	code := b.coordinating()
	if code == none && len(refused) == 0 {
		code = b.k.txns.add(req.TransactionalID, req.ProducerID, req.ProducerEpoch, places)
	}
	for _, t := range req.Topics {
		result := kmsg.AddPartitionsToTxnResponseTopic{Topic: t.Topic}
		for _, id := range t.Partitions {
			one := kmsg.AddPartitionsToTxnResponseTopicPartition{Partition: id, ErrorCode: code}
			if code == none && len(refused) > 0 { // one that is refused takes the others along
				one.ErrorCode = operationNotAttempted
				if why, is := refused[place{t.Topic, id}]; is {
					one.ErrorCode = why
				}
			}
			result.Partitions = append(result.Partitions, one)
		}
		answer.Topics = append(answer.Topics, result)
	}
	return answer
}

func (b *brokerConn) endTxn(req *kmsg.EndTxnRequest) kmsg.Response {
	answer := req.ResponseKind().(*kmsg.EndTxnResponse)
	if answer.ErrorCode = b.coordinating(); answer.ErrorCode == none {
		answer.ErrorCode = b.k.txns.abort(req.TransactionalID, req.ProducerID, req.ProducerEpoch)
	}
	if answer.ErrorCode == none {
		b.k.reached(b.process, ending)
	}
	return answer
}

// configs tells how long producers are remembered, or nothing, as where the right to ask is missing.
func (k *cluster) configs(req *kmsg.DescribeConfigsRequest) kmsg.Response {
	const clusterAuthorizationFailed = 31
	answer := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	for _, asked := range req.Resources {
		r := kmsg.DescribeConfigsResponseResource{ErrorCode: clusterAuthorizationFailed, ResourceType: asked.ResourceType, ResourceName: asked.ResourceName}
		if k.tells {
			ms := strconv.FormatInt(k.expiration.Milliseconds(), 10)
			r.ErrorCode, r.Configs = none, []kmsg.DescribeConfigsResponseResourceConfig{{Name: "producer.id.expiration.ms", Value: &ms}}
		}
		answer.Resources = append(answer.Resources, r)
	}
	return answer
}
