package cdc

import "testing"

func TestOwnerIsTheTimelineThatWroteTheWAL(t *testing.T) {
	for name, c := range map[string]struct {
		current uint32
		history string
		want    map[lsn]uint32
	}{
		"first timeline": {1, "", map[lsn]uint32{0: 1, 1 << 40: 1}},
		"one switch": {2, "1\t0/3000100\tno recovery target specified\n", map[lsn]uint32{
			0x30000FF: 1, 0x3000100: 2, 0x3000101: 2, // the switch point is the successor's first byte
		}},
		"several, comments and blank lines": {5, "# restored\n\n1\t0/1000\ta\n 2 0/2000 before 2024-01-01 00:00:00+00\n4\t1/0\tb # c\n", map[lsn]uint32{
			0xFFF: 1, 0x1000: 2, 0x1FFF: 2, 0x2000: 4, 0xFFFF_FFFF: 4, 0x1_0000_0000: 5,
		}},
		"a timeline that wrote nothing": {3, "1\t0/1000\ta\n2\t0/1000\tb\n", map[lsn]uint32{0xFFF: 1, 0x1000: 3}},
		"no newline at the end":         {2, "1\t0/1000\ta", map[lsn]uint32{0xFFF: 1, 0x1000: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := parseHistory(c.current, []byte(c.history))
			if err != nil {
				t.Fatal(err)
			}
			for at, want := range c.want {
				if got := h.owner(at); got != want {
					t.Errorf("%s is of timeline %d, want %d", at, got, want)
				}
			}
		})
	}
}

func TestHistoryThatMakesNoSenseIsAnError(t *testing.T) {
	for name, text := range map[string]string{
		"no switch point":    "1\n",
		"no timeline":        "x\t0/1000\ta\n",
		"no LSN":             "1\tnowhere\ta\n",
		"not ascending":      "2\t0/2000\ta\n1\t0/3000\tb\n",
		"going backwards":    "1\t0/2000\ta\n2\t0/1000\tb\n",
		"its own ancestor":   "3\t0/1000\ta\n",
		"a timeline too big": "99999999999\t0/1000\ta\n",
	} {
		if _, err := parseHistory(3, []byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzHistory(f *testing.F) {
	f.Add([]byte("1\t0/3000100\tno recovery target specified\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := parseHistory(7, text)
		if err != nil {
			return
		}
		last := uint32(0)
		for _, p := range h.past {
			got := h.owner(p.end)
			if got < last || got <= p.id {
				t.Fatalf("timeline %d owns the end of timeline %d, after timeline %d", got, p.id, last)
			}
			last = got
		}
	})
}
