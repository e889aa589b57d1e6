package sink

import "strconv"

// class is what becomes of the work that a broker answered with an error code. kafka-go's Error.Temporary is no guide: it
// leaves out codes that pass by themselves.
type class uint8

const (
	// classFatal ends the session, and is the class of codes that are not in the table. A code from a newer broker is
	// one whose meaning we do not know; the next session finds out what happened, and the pause before it
	// keeps a lasting trouble from becoming a storm, where a retry of ours could go on for ever unseen.
	classFatal class = iota
	// classNone is success.
	classNone
	// classRetry passes by itself: sent again for ever, with backoff.
	classRetry
	// classMetadata was sent to the wrong broker: sent again once it is known who leads, coordinates or controls now.
	classMetadata
	// classTopic holds one topic's rows until somebody mends the topic or our rights on it; others go on.
	classTopic
	// classRecord refuses records for what they are; policy decides about them once they are named.
	classRecord
	// classSequence means a gap, or a repeat that the broker has forgotten: which, the queue knows.
	classSequence
	// classDuplicate is an ack for a batch that was taken earlier.
	classDuplicate
	// classFenced means that another relay has taken over. It ends the session.
	classFenced
	// classState means that what the broker knows of our producer or transaction is not what we know. It ends the session.
	classState
)

// Codes that are looked at one by one.
const (
	codeUnknownTopic             int16 = 3
	codeMessageTooLarge          int16 = 10
	codeRecordListTooLarge       int16 = 18
	codeTopicForbidden           int16 = 29
	codeTopicAlreadyExists       int16 = 36
	codeInvalidReplicationFactor int16 = 38
)

// classify is the class of an error code. One code may come from several APIs; it has one class, since it means one thing.
func classify(code int16) class { return errorCodes[code].class }

// errorName is the name of an error code in Kafka's protocol guide.
func errorName(code int16) string {
	if known, ok := errorCodes[code]; ok {
		return known.name
	}
	return "error code " + strconv.Itoa(int(code))
}

// errorCodes holds every code that a broker up to Kafka 4.1 may answer to Produce, Metadata, InitProducerID,
// AddPartitionsToTxn, EndTxn, FindCoordinator, Fetch, ListOffsets, CreateTopics or DescribeConfigs
// (Kafka protocol guide, "Error Codes", and the brokers' handlers).
var errorCodes = map[int16]struct {
	name  string
	class class
}{
	-1: {"UNKNOWN_SERVER_ERROR", classFatal}, // an exception in the broker: whether it wrote is unknown
	0:  {"NONE", classNone},
	1:  {"OFFSET_OUT_OF_RANGE", classFatal}, // records that a scan needs are gone; a scan looks at it itself
	2:  {"CORRUPT_MESSAGE", classFatal},     // the batch may have been damaged in our memory: the next session encodes anew
	3:  {"UNKNOWN_TOPIC_OR_PARTITION", classTopic},
	4:  {"INVALID_FETCH_SIZE", classFatal},
	5:  {"LEADER_NOT_AVAILABLE", classMetadata},
	6:  {"NOT_LEADER_OR_FOLLOWER", classMetadata},
	7:  {"REQUEST_TIMED_OUT", classRetry},
	8:  {"BROKER_NOT_AVAILABLE", classMetadata},
	9:  {"REPLICA_NOT_AVAILABLE", classMetadata},
	10: {"MESSAGE_TOO_LARGE", classRecord},
	13: {"NETWORK_EXCEPTION", classMetadata}, // between brokers
	14: {"COORDINATOR_LOAD_IN_PROGRESS", classRetry},
	15: {"COORDINATOR_NOT_AVAILABLE", classRetry},
	16: {"NOT_COORDINATOR", classMetadata},
	17: {"INVALID_TOPIC_EXCEPTION", classTopic},
	18: {"RECORD_LIST_TOO_LARGE", classRecord},
	19: {"NOT_ENOUGH_REPLICAS", classRetry},
	20: {"NOT_ENOUGH_REPLICAS_AFTER_APPEND", classRetry},
	21: {"INVALID_REQUIRED_ACKS", classFatal},
	24: {"INVALID_GROUP_ID", classFatal}, // FindCoordinator: an empty transactional id
	29: {"TOPIC_AUTHORIZATION_FAILED", classTopic},
	30: {"GROUP_AUTHORIZATION_FAILED", classFatal},
	31: {"CLUSTER_AUTHORIZATION_FAILED", classFatal},
	32: {"INVALID_TIMESTAMP", classRecord},
	33: {"UNSUPPORTED_SASL_MECHANISM", classFatal},
	34: {"ILLEGAL_SASL_STATE", classFatal},
	35: {"UNSUPPORTED_VERSION", classFatal},
	36: {"TOPIC_ALREADY_EXISTS", classTopic}, // 36 to 40 and 44: CreateTopics refuses one topic's settings
	37: {"INVALID_PARTITIONS", classTopic},
	38: {"INVALID_REPLICATION_FACTOR", classTopic}, // also while brokers are away
	39: {"INVALID_REPLICA_ASSIGNMENT", classTopic},
	40: {"INVALID_CONFIG", classTopic},
	41: {"NOT_CONTROLLER", classMetadata},
	42: {"INVALID_REQUEST", classFatal},
	43: {"UNSUPPORTED_FOR_MESSAGE_FORMAT", classFatal},
	44: {"POLICY_VIOLATION", classTopic},
	45: {"OUT_OF_ORDER_SEQUENCE_NUMBER", classSequence},
	46: {"DUPLICATE_SEQUENCE_NUMBER", classDuplicate},
	47: {"INVALID_PRODUCER_EPOCH", classFenced},
	48: {"INVALID_TXN_STATE", classState},
	49: {"INVALID_PRODUCER_ID_MAPPING", classFenced}, // our transactional id belongs to another producer id by now
	50: {"INVALID_TRANSACTION_TIMEOUT", classFatal},  // above transaction.max.timeout.ms
	51: {"CONCURRENT_TRANSACTIONS", classRetry},
	52: {"TRANSACTION_COORDINATOR_FENCED", classState},
	53: {"TRANSACTIONAL_ID_AUTHORIZATION_FAILED", classState},
	54: {"SECURITY_DISABLED", classFatal},
	55: {"OPERATION_NOT_ATTEMPTED", classRetry}, // another partition of the request failed; that one has the reason
	56: {"KAFKA_STORAGE_ERROR", classMetadata},  // the leader's disk: another replica takes over
	58: {"SASL_AUTHENTICATION_FAILED", classFatal},
	59: {"UNKNOWN_PRODUCER_ID", classState},
	70: {"FETCH_SESSION_ID_NOT_FOUND", classRetry}, // we open no fetch session, so none of ours can be missing for long
	71: {"INVALID_FETCH_SESSION_EPOCH", classRetry},
	72: {"LISTENER_NOT_FOUND", classMetadata}, // the leader is not reachable by the listener we came in by
	74: {"FENCED_LEADER_EPOCH", classMetadata},
	75: {"UNKNOWN_LEADER_EPOCH", classMetadata},
	76: {"UNSUPPORTED_COMPRESSION_TYPE", classFatal},
	78: {"OFFSET_NOT_AVAILABLE", classRetry}, // a new leader does not know its high watermark yet
	87: {"INVALID_RECORD", classRecord},
	89: {"THROTTLING_QUOTA_EXCEEDED", classRetry},
	90: {"PRODUCER_FENCED", classFenced},
	// 100, 103 and 106: the topic was made anew. We speak names, not ids, so it is looked up again.
	100: {"UNKNOWN_TOPIC_ID", classMetadata},
	103: {"INCONSISTENT_TOPIC_ID", classMetadata},
	106: {"FETCH_SESSION_TOPIC_ID_ERROR", classMetadata},
	109: {"OFFSET_MOVED_TO_TIERED_STORAGE", classFatal}, // for followers only
	120: {"TRANSACTION_ABORTABLE", classState},
	129: {"REBOOTSTRAP_REQUIRED", classMetadata},
}
