package config

import "github.com/outrider-relay/outrider/sink/route"

// Routing gives the settings by which rows become records.
func (o *Outbox) Routing() route.Settings {
	return route.Settings{
		Columns:        o.Columns,
		Topic:          o.Topic,
		TopicRegex:     route.TopicRegex(o.TopicRegex),
		Key:            o.Key,
		KeyFormat:      route.Format(o.KeyFormat),
		AllowedTopics:  o.AllowedTopics,
		Headers:        o.Headers,
		HeaderFormat:   route.Format(o.HeaderFormat),
		Envelope:       o.Envelope,
		Value:          route.Format(o.Value),
		ExpandJSON:     o.ExpandJSON,
		NoTombstone:    !o.TombstoneOnNull,
		ProcessingTime: o.Timestamp == "processing",
		Source:         o.CloudEvents.Source,
		OmitPosition:   !o.PositionHeader,
		Debezium:       o.Compat == "debezium",
		Context:        o.ContextHeaders,
	}
}
