package config

import "strings"

// nearest gives the candidate that a mistyped path most likely meant. A right last part in the wrong section counts as near.
func nearest(path string, candidates []string) string {
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
