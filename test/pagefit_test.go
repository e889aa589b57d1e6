package test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// screens are those that the page has to fit.
var screens = []struct {
	name          string
	width, height int
}{{"phone", 360, 740}, {"tablet", 820, 1180}, {"wide", 1440, 900}}

// overflowing lists the cards out of which something sticks.
const overflowing = `[...document.querySelectorAll(".card")].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.innerText)`

// unreadable lists the visible texts whose contrast with their background is below what WCAG 2.2 asks for at level AA
// (1.4.3): 4.5 to 1, or 3 to 1 where the letters are large.
const unreadable = `(() => {
  const rgba = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const { rgb, a } = rgba(getComputedStyle(node).backgroundColor);
      if (a === 1) return rgb;
      if (a > 0) throw new Error("a translucent background");
    }
    throw new Error("no background");
  };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(rgba(style.color).rgb), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(texts.currentNode.textContent.trim().slice(0, 40) + ": " + ratio.toFixed(2));
  }
  return poor;
})()`

// tooSmall lists what can be pressed and is smaller than WCAG 2.2 asks for at level AA (2.5.8): 24 by 24 pixels.
const tooSmall = `[...document.querySelectorAll("a, button, summary")].filter((e) => e.checkVisibility()).filter((e) => {
  const box = e.getBoundingClientRect();
  return box.width < 24 || box.height < 24;
}).map((e) => e.textContent)`

// nameless lists what a screen reader would find without a name, and what it would look for and not find.
const nameless = `[
  ...[...document.querySelectorAll("section")].filter((e) => !document.getElementById(e.getAttribute("aria-labelledby"))?.textContent).map((e) => e.outerHTML),
  ...[...document.querySelectorAll("svg")].filter((e) => e.checkVisibility() && !(e.getAttribute("role") === "img" && e.getAttribute("aria-label"))).map((e) => e.outerHTML),
  ...[...document.querySelectorAll("th")].filter((e) => !e.scope).map((e) => e.outerHTML),
  ...["html[lang]", "title", "header", "main", "footer nav[aria-label]", "h1", "[role=status] #state"].filter((s) => document.querySelectorAll(s).length !== 1),
]`

func TestPageFitsEveryScreenAndCanBeRead(t *testing.T) {
	tab := harness.StartBrowser(t).OpenTab(t)
	for _, scene := range pageScenes(time.Now().UTC().Truncate(time.Second)) {
		at := servePage(t, scene.relay(), nil, &scene.history)
		tab.Go(t, at.String())
		tab.Await(t, 10*time.Second, `document.querySelector("#lag-plot svg")`)
		if scene.rate > 0 {
			tab.Await(t, 10*time.Second, `document.getElementById("rate").textContent !== "0"`)
		}
		for _, screen := range screens {
			for _, dark := range []bool{false, true} {
				name := scene.name + "-" + screen.name + map[bool]string{false: "-light", true: "-dark"}[dark]
				t.Run(name, func(t *testing.T) {
					tab.Show(t, screen.width, screen.height, dark)
					var width int
					tab.Eval(t, `document.scrollingElement.scrollWidth`, &width)
					if width > screen.width {
						t.Errorf("it is %d pixels wide", width)
					}
					tab.Eval(t, `document.querySelector("details").open = true`, nil)
					for what, list := range map[string]string{"does not fit": overflowing, "cannot be read": unreadable, "is hard to hit": tooSmall, "has no name": nameless} {
						var found []string
						tab.Eval(t, list, &found)
						if len(found) > 0 {
							t.Errorf("%s: %q", what, found)
						}
					}
					tab.Eval(t, `document.querySelector("details").open = false`, nil)
					if screen.name != "tablet" {
						takePicture(t, tab, "page-"+name)
					}
				})
			}
		}
		if complaints := tab.Complaints(); len(complaints) > 0 {
			t.Errorf("%s: the page complains: %s", scene.name, complaints)
		}
	}
}

// takePicture writes a picture of the page into the folder that SCREENSHOTS names, if it does.
func takePicture(t *testing.T, tab *harness.Tab, name string) {
	t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), tab.Picture(t), 0o644); err != nil {
		t.Error(err)
	}
}
