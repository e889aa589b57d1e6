package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/protocol/describeconfigs"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// expiry is for how long brokers remember what they are not reminded of.
type expiry struct {
	producer      time.Duration // a producer in a partition, without a batch or marker of its own
	transactional time.Duration // a transactional id, without a transaction; of no concern without one
}

// Broker settings, with their defaults (Kafka documentation, "Broker Configs").
const (
	producerExpiry      = "producer.id.expiration.ms"
	transactionalExpiry = "transactional.id.expiration.ms"
)

var defaultExpiry = expiry{producer: 24 * time.Hour, transactional: 7 * 24 * time.Hour}

func (e expiry) least() time.Duration { return min(e.producer, e.transactional) }

// learnExpiry asks a broker, over conn where it is one that the cluster names, for what it remembers how long. All brokers
// are taken to be configured alike. The right to ask is wished and not required.
func (k *Kafka) learnExpiry(ctx context.Context, conn *broker.Conn, cluster *metadata.Response) error {
	for _, b := range cluster.Brokers {
		if net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))) == conn.Addr() {
			return k.askExpiry(ctx, conn, b.NodeID)
		}
	}
	var errs []error
	for _, b := range cluster.Brokers { // conn is to an address that only the settings know, a load balancer's
		direct, err := broker.Dial(ctx, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))), &k.cfg.Conn)
		if err == nil {
			err = k.askExpiry(ctx, direct, b.NodeID)
			_ = direct.Close()
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// askExpiry asks the broker with that id. An answer that tells nothing leaves the defaults assumed.
func (k *Kafka) askExpiry(ctx context.Context, conn *broker.Conn, id int32) error {
	const brokerResource = 4
	answer, err := conn.Do(ctx, &describeconfigs.Request{Resources: []describeconfigs.RequestResource{{
		ResourceType: brokerResource, ResourceName: strconv.Itoa(int(id)), ConfigNames: []string{producerExpiry, transactionalExpiry},
	}}})
	why := ""
	k.expiry = expiry{}
	switch {
	case broker.KindOf(err) == broker.KindVersion:
		why = err.Error()
	case err != nil:
		return err
	default:
		for _, r := range answer.(*describeconfigs.Response).Resources {
			if r.ErrorCode != 0 {
				why = (&answerError{r.ErrorCode, r.ErrorMessage}).Error()
			}
			k.expiry.read(r.ConfigEntries)
		}
	}
	if k.expiry.fill() {
		k.cfg.Log.Info().Str("broker", conn.Addr()).Str("reason", why).Stringer("assumed", k.expiry.producer).
			Msg("the broker does not tell how long it remembers a producer (DESCRIBE_CONFIGS on the cluster is wished, not required): Kafka's defaults are assumed")
	}
	// A batch is aged by its own stamps. One that looks as old as the broker's memory is long would be forgotten as it comes.
	k.cfg.MaxTimestampAge = min(k.cfg.MaxTimestampAge, k.expiry.producer/4)
	k.router.MaxTimestampAge = k.cfg.MaxTimestampAge
	return nil
}

// read takes what a broker tells.
func (e *expiry) read(entries []describeconfigs.ResponseConfigEntry) {
	for _, entry := range entries {
		ms, err := strconv.ParseInt(entry.ConfigValue, 10, 64)
		if err != nil || ms <= 0 {
			continue
		}
		switch d := time.Duration(ms) * time.Millisecond; entry.ConfigName {
		case producerExpiry:
			e.producer = d
		case transactionalExpiry:
			e.transactional = d
		}
	}
}

// fill assumes defaults for what is not known, and says whether there was such.
func (e *expiry) fill() (assumed bool) {
	if e.producer == 0 {
		e.producer, assumed = defaultExpiry.producer, true
	}
	if e.transactional == 0 {
		e.transactional, assumed = defaultExpiry.transactional, true
	}
	return assumed
}

func (e expiry) String() string {
	return fmt.Sprintf("%s %s, %s %s", producerExpiry, e.producer, transactionalExpiry, e.transactional)
}
