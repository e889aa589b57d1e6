package sink

import (
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// troubles are the things that keep events from being delivered just now, each under its subject. Changes are logged,
// repetitions are not. Guarded by Kafka.mu.
type troubles struct {
	bySubject map[string]trouble
	log       zerolog.Logger
}

type trouble struct {
	what   string
	said   string // what the log was told last, and when
	saidAt time.Time
}

// troubleLogInterval is the least time between two lines about one subject: brokers that fail in turn, or the port number
// in an error, change the words all the time.
const troubleLogInterval = 30 * time.Second

// set records that subject is in trouble.
func (t *troubles) set(subject, what string) {
	known := t.bySubject[subject]
	known.what = what
	if now := time.Now(); what != known.said && now.Sub(known.saidAt) >= troubleLogInterval {
		known.said, known.saidAt = what, now
		t.log.Warn().Str("subject", subject).Msg(what)
	}
	if t.bySubject == nil {
		t.bySubject = make(map[string]trouble)
	}
	t.bySubject[subject] = known
}

// clear records that subject is well.
func (t *troubles) clear(subject string) {
	if _, was := t.bySubject[subject]; was {
		delete(t.bySubject, subject)
		t.log.Info().Str("subject", subject).Msg("well again")
	}
}

// worst is one of them, always the same one while the set does not change; empty when there is none.
func (t *troubles) worst() string {
	subjects := make([]string, 0, len(t.bySubject))
	for s := range t.bySubject {
		subjects = append(subjects, s)
	}
	if len(subjects) == 0 {
		return ""
	}
	first := slices.Min(subjects)
	return first + ": " + t.bySubject[first].what
}

func (k *Kafka) setTrouble(subject, what string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.troubles.set(subject, what)
}

func (k *Kafka) clearTrouble(subject string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.troubles.clear(subject)
}
