package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options say what is measured, and where it is told.
type options struct {
	rows, single, huge int           // of the backlogs: in transactions of a thousand, of one, and in one
	payloads           []int         // bytes of each row's jsonb, about
	partitions         []int         // of each topic
	rounds             int           // of each backlog
	rates              []int         // rows a second
	lasting            time.Duration // of each rate
	contestants        []contestant  // the relays, in the order of --adapter
	transports         []string      // to Postgres: unix, tcp

	from            string // JSON to tell instead of measuring
	json, svg, page string // files to write; empty: none
}

// list is a flag that takes words with commas between them.
type list struct{ words *[]string }

func (l list) String() string {
	if l.words == nil {
		return ""
	}
	return strings.Join(*l.words, ",")
}

func (l list) Set(text string) error {
	*l.words = strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
	return nil
}

// full is what --full sets, where no flag says otherwise.
var full = map[string]string{
	"rounds": "3", "payload": "300,4096", "partitions": "1,12", "transport": "unix,tcp", "delivery": "exactly-once,at-least-once",
	"rates": "1000,5000,20000", "huge": "5000000",
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rows, "rows", 1_000_000, "rows of the backlog in transactions of a thousand; 0: none")
	flags.IntVar(&o.single, "single", 300_000, "rows of the backlog in transactions of one; 0: none")
	flags.IntVar(&o.huge, "huge", 0, "rows of the backlog that is one transaction; 0: none")
	flags.IntVar(&o.rounds, "rounds", 1, "rounds of each backlog; who goes first alternates")
	flags.DurationVar(&o.lasting, "for", 20*time.Second, "time that each rate of the latency test is held")
	words := map[string]*[]string{}
	listed := func(name, value, usage string) {
		words[name] = new([]string)
		*words[name] = strings.Split(value, ",")
		flags.Var(list{words[name]}, name, usage)
	}
	listed("payload", "300", "bytes of each row's jsonb, about; of rows beyond 1000 there are fewer, so that the bytes stay the same")
	listed("partitions", "12", "partitions of the topic")
	listed("transport", "unix", "to Postgres: unix, tcp or both")
	listed("delivery", "exactly-once", "of relays that offer more than one: exactly-once, at-least-once or both; latency is measured under the first")
	listed("rates", "1000,5000", "rows a second at which latency is measured; empty: none")
	listed("adapter", "outrider", "the relays: a name of test/bench/adapters, or a file")
	everything := flags.Bool("full", false, "every payload, partition count, transport and delivery, three rounds, a huge transaction: an hour and more")
	flags.StringVar(&o.from, "from", "", "tell what this file of --json says, and measure nothing")
	flags.StringVar(&o.json, "json", "", "file for everything that was measured; -: standard output, in place of the tables")
	flags.StringVar(&o.svg, "svg", "", "file for a chart of the backlogs")
	flags.StringVar(&o.page, "page", "", "Markdown file whose part between <!-- bench --> and <!-- /bench --> becomes the tables")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	if *everything {
		given := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		for name, value := range full {
			if !given[name] {
				if err := flags.Set(name, value); err != nil {
					return o, err
				}
			}
		}
	}
	if o.payloads, err = numbers("payload", *words["payload"]); err != nil {
		return o, err
	}
	if o.partitions, err = numbers("partitions", *words["partitions"]); err != nil {
		return o, err
	}
	if o.rates, err = numbers("rates", *words["rates"]); err != nil {
		return o, err
	}
	o.transports = *words["transport"]
	o.contestants, err = contestants(*words["adapter"], *words["delivery"], o.transports)
	return o, err
}

// numbers are those that a flag lists.
func numbers(name string, words []string) (all []int, err error) {
	for _, word := range words {
		n, err := strconv.Atoi(word)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("--%s: %q is no number above 0", name, word)
		}
		all = append(all, n)
	}
	return all, nil
}

// contestant is a relay under one of its deliveries, over one transport.
type contestant struct {
	*adapter
	delivery, transport string
}

func (c contestant) String() string { return c.Name + " (" + c.delivery + ", " + c.transport + ")" }

// contestants are the relays under each delivery and over each transport that was asked for; a relay that offers none of
// these takes part with what it has.
func contestants(adapters, deliveries, transports []string) (all []contestant, err error) {
	for _, word := range deliveries {
		if !slices.Contains(knownDeliveries, word) {
			return nil, fmt.Errorf("--delivery: %q is neither of %s", word, strings.Join(knownDeliveries, ", "))
		}
	}
	for _, word := range transports {
		if !slices.Contains(knownTransports, word) {
			return nil, fmt.Errorf("--transport: %q is neither of %s", word, strings.Join(knownTransports, ", "))
		}
	}
	for _, name := range adapters {
		a, err := openAdapter(name)
		if err != nil {
			return nil, fmt.Errorf("--adapter: %w", err)
		}
		for _, delivery := range offered(a.Deliveries, deliveries) {
			for _, transport := range offered(a.Transports, transports) {
				all = append(all, contestant{a, delivery, transport})
			}
		}
	}
	return all, nil
}

// offered are those wanted that are among what there is, else the first that there is.
func offered(there, wanted []string) (both []string) {
	for _, w := range wanted {
		if slices.Contains(there, w) {
			both = append(both, w)
		}
	}
	if both == nil {
		both = there[:1]
	}
	return both
}

// backlogs are the scenes, large transactions first.
func (o *options) backlogs() (all []backlog) {
	for _, kind := range []backlog{{Name: "bulk", Rows: o.rows, Batch: 1000}, {Name: "single", Rows: o.single, Batch: 1}} {
		for _, payload := range o.payloads {
			for _, partitions := range o.partitions {
				load := kind
				load.Payload, load.Partitions = payload, partitions
				if payload > largeRow {
					load.Rows = load.Rows * largeRow / payload
				}
				all = append(all, load)
			}
		}
	}
	if len(o.payloads) > 0 && len(o.partitions) > 0 {
		all = append(all, backlog{Name: "huge", Rows: o.huge, Batch: o.huge, Payload: o.payloads[0], Partitions: slices.Max(o.partitions)})
	}
	return slices.DeleteFunc(all, func(b backlog) bool { return b.Rows < 2 }) // the last one is the mark of the end
}

// largeRow is the payload, in bytes, beyond which a backlog has fewer rows.
const largeRow = 1000
