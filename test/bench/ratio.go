package main

import (
	"cmp"
	"slices"
)

// entry is what is measured again each round: a reader of a backlog.
type entry struct {
	backlog
	Reader, Delivery, Transport string
}

func (d *drain) entry() entry { return entry{d.backlog, d.Reader, d.Delivery, d.Transport} }

// byEntry sorts the drains by entry, and gives the entries in the order in which they were measured first.
func byEntry(drains []drain) (order []entry, rounds map[entry][]drain) {
	rounds = make(map[entry][]drain)
	for _, d := range drains {
		e := d.entry()
		if rounds[e] == nil {
			order = append(order, e)
		}
		rounds[e] = append(rounds[e], d)
	}
	return order, rounds
}

// median is the round whose rate is in the middle: its figures belong together.
func median(rounds []drain) drain {
	sorted := slices.SortedFunc(slices.Values(rounds), func(a, b drain) int { return cmp.Compare(a.RowsPerS, b.RowsPerS) })
	return sorted[len(sorted)/2]
}

// ratio is how one reader's rate compares with another's of the same backlog, round by round: a bare figure says more about
// the machine.
type ratio struct {
	backlog
	Reader      string  `json:"reader"`
	Delivery    string  `json:"delivery"`
	Transport   string  `json:"transport"`
	To          string  `json:"to"`
	ToDelivery  string  `json:"to_delivery,omitempty"`
	ToTransport string  `json:"to_transport"`
	Rounds      int     `json:"rounds"`
	Min         float64 `json:"min"`
	Median      float64 `json:"median"`
	Max         float64 `json:"max"`
}

// ratios compare every relay with pg_recvlogical over the same transport, and over the unix socket, which is the fastest that
// there is; and the first relay over a transport with the others over it.
func ratios(drains []drain) (all []ratio) {
	order, rounds := byEntry(drains)
	first := make(map[entry]entry) // by what is the same for those that compete
	for _, e := range order {
		if e.Reader == recvlogicalReader {
			continue
		}
		rival := entry{backlog: e.backlog, Transport: e.Transport}
		if _, taken := first[rival]; !taken {
			first[rival] = e
		}
		for _, other := range order {
			if other.backlog != e.backlog {
				continue
			}
			limit := other.Reader == recvlogicalReader && (other.Transport == e.Transport || other.Transport == "unix")
			beaten := other.Reader != recvlogicalReader && other.Transport == e.Transport && first[rival] == e && other != e
			if !limit && !beaten {
				continue
			}
			if r, ok := compare(rounds[e], rounds[other]); ok {
				r.backlog, r.Reader, r.Delivery, r.Transport = e.backlog, e.Reader, e.Delivery, e.Transport
				r.To, r.ToDelivery, r.ToTransport = other.Reader, other.Delivery, other.Transport
				all = append(all, r)
			}
		}
	}
	return all
}

// compare gives the ratios of the rounds that both have.
func compare(own, other []drain) (r ratio, ok bool) {
	var each []float64
	for _, a := range own {
		for _, b := range other {
			if a.Round == b.Round {
				each = append(each, a.RowsPerS/b.RowsPerS)
			}
		}
	}
	if len(each) == 0 {
		return r, false
	}
	slices.Sort(each)
	return ratio{Rounds: len(each), Min: each[0], Median: each[len(each)/2], Max: each[len(each)-1]}, true
}
