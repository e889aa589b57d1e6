package main

import (
	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/sink"
)

// observed is a relay whose status is completed with what the core does not know: the build, and what its sinks have counted.
type observed struct {
	*cdc.Relay
	stats   *sink.Stats
	version string
}

// Status implements admin.Relay.
func (o *observed) Status() cdc.Status {
	st := o.Relay.Status()
	st.Version = o.version
	st.Records.Poison = o.stats.Poison()
	st.Records.SkippedDuplicates += o.stats.SkippedDuplicates()
	st.Topics = make(map[string]cdc.TopicStat)
	for name, count := range o.stats.Topics() {
		st.Topics[name] = cdc.TopicStat{Records: count.Records, Bytes: count.Bytes}
		st.Records.Relayed += count.Records
	}
	return st
}
