package main

import "testing"

func TestBusyIsWhatIsNotIdle(t *testing.T) {
	before, err := parseCPUTimes("cpu  100 0 50 1000 20 0 5 0 0 0\ncpu0 1 2 3\n")
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseCPUTimes("cpu  150 0 60 1120 30 3 7 5 0 0\ncpu0 1 2 3\n")
	if err != nil {
		t.Fatal(err)
	}
	// 50 + 10 + 3 + 2 + 5 (stolen by a neighbour of the virtual machine) of 200
	if got := after.busySince(before); got != 0.35 {
		t.Errorf("%v of the CPUs are busy, not 0.35", got)
	}
	if got := after.busySince(after); got != 0 {
		t.Errorf("at once: %v", got)
	}
	if _, err := parseCPUTimes("intr 1"); err == nil {
		t.Error("another line was taken")
	}
}
