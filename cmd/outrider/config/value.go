package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

// units of Size, the longest suffix first so that "MiB" is not read as "B".
var units = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

func parseSize(s string) (Size, error) {
	unit := int64(1)
	for _, u := range units {
		if number, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSpace(number), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, errors.New("not a size")
	}
	return Size(n * unit), nil
}

// ParseDuration reads a duration that is not negative, as Go writes it, with days of 24 hours before the rest: 30s, 7d, 1d12h.
func ParseDuration(s string) (time.Duration, error) {
	var days int64
	if number, rest, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, errors.New("not a number of days")
		}
		if days, s = int64(n), rest; rest == "" {
			s = "0"
		}
	}
	d, err := time.ParseDuration(s)
	const day = 24 * time.Hour
	switch {
	case err != nil:
		return 0, err
	case d < 0:
		return 0, errors.New("negative")
	case d > math.MaxInt64-time.Duration(days)*day:
		return 0, errors.New("too long")
	}
	return time.Duration(days)*day + d, nil
}

// set fills the setting from a text of any source. Its errors do not repeat the value of a secret.
func (k *key) set(text string) error {
	var err error
	switch field := k.field.(type) {
	case *string:
		if k.oneOf != nil && !slices.Contains(k.oneOf, text) {
			return k.unusable(text)
		}
		*field = text
	case *Secret:
		*field = Secret(text)
	case *bool:
		if text != "true" && text != "false" {
			return k.unusable(text)
		}
		*field = text == "true"
	case *int32:
		var n int64
		n, err = strconv.ParseInt(text, 10, 32)
		*field = int32(n)
	case *Size:
		*field, err = parseSize(text)
	case *time.Duration:
		*field, err = ParseDuration(text)
	case *[]string:
		*field = splitList(text)
	case *map[string]string:
		*field, err = splitMap(text)
		if err != nil {
			return err
		}
	default:
		panic(fmt.Sprintf("setting %s has a field of type %T", k.path, k.field))
	}
	if err != nil {
		return k.unusable(text)
	}
	return nil
}

func (k *key) unusable(text string) error {
	return fmt.Errorf("%q is not %s", text, k.wants())
}

// splitList reads the comma-separated form that variables and flags have; an empty text is an empty list.
func splitList(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	list := strings.Split(text, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// splitMap reads "a=b,c=d" likewise.
func splitMap(text string) (map[string]string, error) {
	m := make(map[string]string)
	for _, entry := range splitList(text) {
		name, value, ok := strings.Cut(entry, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not name=value; a value that holds a comma must be set in the file", entry)
		}
		m[name] = value
	}
	return m, nil
}

// expand replaces each ${env:VAR} in text. Other ${...} are templates over the row and stay. What a variable holds is not expanded again.
func expand(text string, environ map[string]string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${env:")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errors.New("${env: has no closing }")
		}
		value, ok := environ[name]
		if !ok {
			return "", fmt.Errorf("environment variable %s, which ${env:%s} names, is not set", name, name)
		}
		b.WriteString(value)
		text = after
	}
}
