package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/cmd/outrider/admin"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
	"github.com/outrider-relay/outrider/sink"
	"github.com/outrider-relay/outrider/sink/broker"
	"github.com/outrider-relay/outrider/sink/record"
)

// adminServer makes the endpoint.
func adminServer(settings *config.Settings, r *observed, log zerolog.Logger) *admin.Server {
	b := thisBuild()
	return &admin.Server{
		Relay:    r,
		Metrics:  admin.Registry(r, prometheus.Labels{"version": b.Version, "commit": b.Commit, "go": b.Go}, r.stats),
		Token:    settings.HTTP.Token(),
		Insecure: settings.HTTP.Insecure,
		Log:      log,
	}
}

func relayConfig(s *config.Settings, cfg sink.Config, log zerolog.Logger) cdc.Config {
	return cdc.Config{
		Name:     s.Name,
		Instance: instance(),
		Delivery: s.Kafka.Delivery,
		Postgres: cdc.Postgres{
			URL:            string(s.Postgres.URL),
			Password:       s.Postgres.Password(),
			Publication:    s.Postgres.Publication,
			Slot:           s.Postgres.Slot,
			Create:         s.Postgres.Create,
			Failover:       s.Postgres.Failover == "auto",
			Tables:         s.Outbox.Tables,
			Prefixes:       s.Outbox.LogicalMessages.Prefixes,
			MaxRetainedWAL: int64(s.Postgres.MaxRetainedWAL),
		},
		NewSink: func(ledger *cdc.Ledger) (cdc.Sink, error) {
			cfg.Decided = make(map[string]sink.Policy)
			for position, deadLetter := range ledger.Decided {
				if cfg.Decided[position] = sink.Skip; deadLetter {
					cfg.Decided[position] = sink.DeadLetter
				}
			}
			if s.Kafka.Delivery == cdc.ExactlyOnce {
				cfg.Ledger = ledger
			}
			k, err := sink.New(cfg)
			if err != nil {
				return nil, err // and no nil *Kafka in a Sink that is not nil
			}
			return k, nil
		},
		Rehearse: func(ctx context.Context) error {
			return sink.Rehearse(ctx, cfg, s.Kafka.Delivery == cdc.ExactlyOnce)
		},
		CheckpointInterval: s.Checkpoint.Interval,
		Drain:              s.Timeouts.Drain,
		Retention:          s.Outbox.Retention,
		Columns:            s.Outbox.Columns,
		ExitOnBlocked:      s.OnBlocked == "exit",
		Log:                log,
	}
}

// instance tells this process from others of the same name, also from its own predecessor in the same container.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), strings.ToLower(rand.Text()[:6]))
}

func sinkConfig(s *config.Settings, stats *sink.Stats, log zerolog.Logger) (sink.Config, error) {
	compression, err := record.ParseCompression(s.Kafka.Compression)
	if err != nil {
		return sink.Config{}, err
	}
	return sink.Config{
		Name:             s.Name,
		Brokers:          s.Kafka.Brokers,
		Conn:             brokerConfig(s),
		Compression:      compression,
		Linger:           s.Kafka.Linger,
		BatchBytes:       int(s.Kafka.BatchBytes),
		MaxInFlightBytes: int64(s.Kafka.MaxInFlightBytes),
		MaxTimestampAge:  s.Kafka.MaxTimestampAge,
		Topics: sink.Topics{
			Create:            s.Kafka.Topics.Create,
			Partitions:        s.Kafka.Topics.Partitions,
			ReplicationFactor: int16(s.Kafka.Topics.ReplicationFactor),
			Config:            s.Kafka.Topics.Config,
			Wait:              s.Kafka.Topics.Wait,
		},
		Routing:    s.Outbox.Routing(),
		OnPoison:   sink.Policy(s.Outbox.OnPoison),
		DeadLetter: s.Outbox.DeadLetter.Topic,
		Stats:      stats,
		Log:        log,
	}, nil
}

func brokerConfig(s *config.Settings) broker.Config {
	cfg := broker.Config{ClientID: s.Kafka.ClientID, Timeout: s.Timeouts.Broker}
	if t := &s.Kafka.TLS; t.Enabled {
		cfg.TLS = broker.TLS{
			CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify,
		}.Config
	}
	if s.Kafka.SASL.Mechanism != "none" {
		cfg.SASL = saslConfig(&s.Kafka.SASL)
	}
	return cfg
}

// saslConfig gives the mechanism for each dial, with secrets as their files then hold them.
func saslConfig(s *config.SASL) func() (broker.SASL, error) {
	switch s.Mechanism {
	case "aws-msk-iam":
		return new(broker.MSK).Mechanism
	case "oauthbearer":
		return func() (broker.SASL, error) {
			token, err := s.ReadToken()
			if err != nil {
				return nil, err
			}
			return broker.Bearer(token, s.Extensions), nil
		}
	default:
		return func() (broker.SASL, error) {
			password, err := s.ReadPassword()
			if err != nil {
				return nil, err
			}
			return broker.Mechanism(s.Mechanism, s.Username, password)
		}
	}
}
