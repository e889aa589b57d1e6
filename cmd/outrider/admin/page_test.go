package admin

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestPageMayLoadWhatIsItsOwnAndNothingElse(t *testing.T) {
	base := serve(t, &Server{Relay: &relay{}}, "127.0.0.1:0")
	for path, contentType := range map[string]string{"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"} {
		code, body, header := do(t, "GET", base+path, nil)
		if code != 200 || !strings.HasPrefix(header.Get("Content-Type"), contentType) || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, code, header)
		}
		policy := header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("%s may load %s", path, policy)
		}
		// The name of SVG's namespace is an address that nothing is loaded from.
		if foreign := regexp.MustCompile(`(https?:)?//[\w.]+\.\w+[^"]*`).FindString(strings.ReplaceAll(body, "http://www.w3.org/2000/svg", "")); foreign != "" {
			t.Errorf("%s speaks of %s", path, foreign)
		}
	}
}

// palette reads the colours of page.css: light, then dark.
func palette(t *testing.T) [2]map[string][3]float64 {
	t.Helper()
	light, dark, found := strings.Cut(pageCSS, "@media (prefers-color-scheme: dark)")
	if !found {
		t.Fatal("page.css has no dark colours")
	}
	var colours [2]map[string][3]float64
	for i, css := range []string{light, dark} {
		colours[i] = make(map[string][3]float64)
		for _, m := range regexp.MustCompile(`--([\w-]+): #(\w\w)(\w\w)(\w\w);`).FindAllStringSubmatch(css, -1) {
			var rgb [3]float64
			for j := range rgb {
				n, err := strconv.ParseUint(m[2+j], 16, 8)
				if err != nil {
					t.Fatal(err)
				}
				rgb[j] = float64(n) / 255
			}
			colours[i][m[1]] = rgb
		}
	}
	return colours
}

// contrast is WCAG's: from 1 to 21.
func contrast(a, b [3]float64) float64 {
	luminance := func(rgb [3]float64) float64 {
		for i, c := range rgb {
			if c <= 0.04045 {
				rgb[i] = c / 12.92
			} else {
				rgb[i] = math.Pow((c+0.055)/1.055, 2.4)
			}
		}
		return 0.2126*rgb[0] + 0.7152*rgb[1] + 0.0722*rgb[2]
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestPaletteCanBeRead(t *testing.T) {
	if got := fmt.Sprintf("%.2f", contrast([3]float64{0, 0, 0}, [3]float64{1, 1, 1})); got != "21.00" {
		t.Fatalf("black on white has a contrast of %s", got)
	}
	const text, graphics = 4.5, 3 // WCAG 2.2, AA: 1.4.3 and 1.4.11
	colours := palette(t)
	for i, scheme := range []string{"light", "dark"} {
		for _, pair := range []struct {
			front, back string
			least       float64
		}{
			{"text", "page", text},
			{"text", "card", text},
			{"muted", "page", text},
			{"muted", "card", text},
			{"accent", "page", text}, // links, and the ring around what has the focus
			{"accent", "card", text},
			{"accent", "accent-tint", text},
			{"good", "good-tint", text},
			{"warn", "warn-tint", text},
			{"bad", "bad-tint", text},
			{"good", "card", graphics}, // the bar beside the state, and the meter's
			{"warn", "card", graphics},
			{"bad", "card", graphics},
		} {
			front, known := colours[i][pair.front]
			back, too := colours[i][pair.back]
			if !known || !too {
				t.Errorf("%s: there is no %s or no %s", scheme, pair.front, pair.back)
			} else if got := contrast(front, back); got < pair.least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, less than %.1f", scheme, pair.front, pair.back, got, pair.least)
			}
		}
		if len(colours[i]) != len(colours[0]) {
			t.Errorf("%s has %d colours, not %d", scheme, len(colours[i]), len(colours[0]))
		}
	}
}
