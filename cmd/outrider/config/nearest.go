package config

import (
	"slices"
	"strings"
)

// elsewhere are names that other programs have for what is called otherwise here, by their last part.
var elsewhere = map[string]string{
	"acks": "kafka.delivery", "idempotence": "kafka.delivery", "enable_idempotence": "kafka.delivery", "transactional_id": "name",
	"bootstrap_servers": "kafka.brokers", "security_protocol": "kafka.tls.enabled", "compression_type": "kafka.compression", "batch_size": "kafka.batch_bytes",
	"host": "postgres.url", "port": "postgres.url", "user": "postgres.url", "database": "postgres.url", "dbname": "postgres.url", "dsn": "postgres.url", "sslmode": "postgres.url",
}

// nearest gives the candidate that a mistyped path most likely meant. A right last part in the wrong section counts as near.
func nearest(path string, candidates []string) string {
	if known := elsewhere[lastPart(path)]; slices.Contains(candidates, known) {
		return known
	}
	best, least := "", -1
	for _, c := range candidates {
		d := min(distance(path, c), distance(lastPart(path), lastPart(c))+1)
		if least < 0 || d < least {
			best, least = c, d
		}
	}
	return best
}

func lastPart(path string) string {
	return path[strings.LastIndexByte(path, '.')+1:]
}

// distance is Levenshtein's: the insertions, deletions and replacements that turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
