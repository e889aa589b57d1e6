package simulation

import "sync"

// stage is how far a process has come in its session, as the servers see it by what it asks of them. A fault meets another
// relay at each.
type stage int

const (
	outside   stage = iota // it connects, or stands by
	owning                 // the slot is its own
	claimed                // so is the row of outrider.checkpoint
	producing              // so is the producer
	ending                 // it ends an empty transaction, whose marker it wants to read in each log
	scanning               // it reads the logs
	prepared               // nothing is left to do before the stream begins
	sending                // Kafka was asked to take a batch
	storing                // progress was stored: the stage to stay in
	draining               // it was asked to stop
	stages
)

func (s stage) String() string {
	return [stages]string{"outside", "owning", "claimed", "producing", "ending", "scanning", "prepared", "sending", "storing", "draining"}[s]
}

// journey knows how far each process has come.
type journey struct {
	mu      sync.Mutex
	at      map[string]leg
	waiting map[stage][]chan string
}

// leg is a session's.
type leg struct {
	walsender uint32
	stage     stage
}

func newJourney() *journey {
	return &journey{at: make(map[string]leg), waiting: make(map[stage][]chan string)}
}

// begin notes a session: its walsender has taken the slot.
func (j *journey) begin(process string, walsender uint32) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.at[process] = leg{walsender: walsender}
	j.advance(process, owning)
}

// end notes that a walsender is no more, and with it a session, unless that process has begun another one by now.
func (j *journey) end(process string, walsender uint32) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.at[process].walsender == walsender {
		delete(j.at, process)
	}
}

// reach notes that a process has come to a stage, where its session is not further.
func (j *journey) reach(process string, s stage) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l, known := j.at[process]; known && l.stage < s {
		j.advance(process, s)
	}
}

func (j *journey) advance(process string, s stage) {
	l := j.at[process]
	l.stage = s
	j.at[process] = l
	for _, c := range j.waiting[s] {
		c <- process
	}
	delete(j.waiting, s)
}

// await gives the process that comes to a stage next.
func (j *journey) await(s stage) <-chan string {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := make(chan string, 1)
	j.waiting[s] = append(j.waiting[s], c)
	return c
}

// of is the stage of a process.
func (j *journey) of(process string) stage {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.at[process].stage
}
