package config

import "github.com/outrider-relay/outrider/sink"

// Routing gives the settings by which the sink makes records of rows.
func (o *Outbox) Routing() sink.Routing {
	return sink.Routing{
		Columns:        o.Columns,
		Topic:          o.Topic,
		TopicRegex:     sink.TopicRegex(o.TopicRegex),
		Key:            o.Key,
		KeyFormat:      sink.Format(o.KeyFormat),
		AllowedTopics:  o.AllowedTopics,
		Headers:        o.Headers,
		HeaderFormat:   sink.Format(o.HeaderFormat),
		Envelope:       o.Envelope,
		Value:          sink.Format(o.Value),
		ExpandJSON:     o.ExpandJSON,
		NoTombstone:    !o.TombstoneOnNull,
		ProcessingTime: o.Timestamp == "processing",
		Source:         o.CloudEvents.Source,
		OmitPosition:   !o.PositionHeader,
		Debezium:       o.Compat == "debezium",
		Context:        o.ContextHeaders,
	}
}
