package simulation

import (
	"maps"
	"slices"
	"time"
)

// image is a server's state at a moment: a backup, or a standby that has received no more.
type image struct {
	end      lsn
	commits  int
	slots    map[string]*slot
	rows     map[string]row
	places   map[string]map[place]scanRow
	timeline uint32
}

func (s *server) image() *image {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := &image{
		end: s.end, commits: len(s.commits), timeline: s.timeline,
		slots: make(map[string]*slot), rows: make(map[string]row), places: make(map[string]map[place]scanRow),
	}
	for name, sl := range s.slots {
		copied := *sl
		i.slots[name] = &copied
	}
	for name, r := range s.rows {
		i.rows[name] = maps.Clone(r)
	}
	for name, p := range s.places {
		i.places[name] = maps.Clone(p)
	}
	return i
}

// restore puts a server that is down back to an image. It gives the commits that are left.
func (s *server) restore(i *image) []*commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end, s.commits, s.slots, s.rows, s.places = i.end, s.commits[:i.commits:i.commits], i.slots, i.rows, i.places
	for _, sl := range s.slots {
		sl.pid = 0
	}
	return slices.Clone(s.commits)
}

// clone is another server with the same data, which an address may lead to by mistake. Nothing happens there.
func (s *server) clone() *server {
	i, twin := s.image(), newServer(0)
	s.mu.Lock()
	twin.commits, twin.past, twin.started = slices.Clone(s.commits), slices.Clone(s.past), s.started.Add(-time.Hour)
	twin.systemID, twin.timeline, twin.unknown = s.systemID, s.timeline, s.unknown
	s.mu.Unlock()
	twin.restore(i)
	return twin
}

// forget leaves the oracle with these commits.
func (o *oracle) forget(left []*commit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.order = left
	o.safe, o.whole = min(o.safe, len(left)), min(o.whole, len(left))
}
