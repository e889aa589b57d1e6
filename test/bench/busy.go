package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// quiet is the share of the CPUs in use up to which a machine counts as one that does nothing else.
const quiet = 0.1

// busyCPUs looks for a second how much of the CPUs is in use.
func busyCPUs(ctx context.Context) (share float64, err error) {
	before, err := readCPUTimes()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(time.Second):
	}
	after, err := readCPUTimes()
	if err != nil {
		return 0, err
	}
	return after.busySince(before), nil
}

// cpuTimes are what all CPUs together have spent, in ticks.
type cpuTimes struct{ idle, all uint64 }

func (t cpuTimes) busySince(before cpuTimes) float64 {
	all := t.all - before.all
	if all == 0 {
		return 0
	}
	return 1 - float64(t.idle-before.idle)/float64(all)
}

func readCPUTimes() (cpuTimes, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTimes{}, err
	}
	return parseCPUTimes(string(b))
}

// parseCPUTimes reads the first line of /proc/stat (proc_stat(5)).
func parseCPUTimes(stat string) (t cpuTimes, err error) {
	var user, nice, system, idle, iowait, irq, softirq, steal uint64
	if _, err := fmt.Sscanf(stat, "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		return t, fmt.Errorf("/proc/stat: %w", err)
	}
	return cpuTimes{idle: idle + iowait, all: user + nice + system + idle + iowait + irq + softirq + steal}, nil
}
