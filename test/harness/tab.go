package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// Tab is one of a browser's, with a page in it.
type Tab struct {
	browser    *Browser
	session    string
	complaints []string // guarded by the browser's mu
}

// tabPatience bounds everything that a tab is asked for.
const tabPatience = 20 * time.Second

// OpenTab opens an empty tab.
func (b *Browser) OpenTab(t testing.TB) *Tab {
	t.Helper()
	tab := &Tab{browser: b}
	ctx, cancel := context.WithTimeout(t.Context(), tabPatience)
	defer cancel()
	var target struct{ TargetID string }
	var attached struct{ SessionID string }
	err := b.call(ctx, "", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	if err == nil {
		err = b.call(ctx, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	}
	if err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	tab.session = attached.SessionID
	b.mu.Lock()
	b.tabs[tab.session] = tab
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		tab.call(t, domain+".enable", nil, nil)
	}
	return tab
}

func (tab *Tab) call(t testing.TB, method string, params map[string]any, result any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), tabPatience)
	defer cancel()
	if params == nil {
		params = map[string]any{}
	}
	if err := tab.browser.call(ctx, tab.session, method, params, result); err != nil {
		t.Fatal(err)
	}
}

// note keeps what the page would have written in red on the console: exceptions, refused resources, broken policies.
func (tab *Tab) note(method string, params json.RawMessage) {
	switch method {
	case "Runtime.exceptionThrown":
		tab.complaints = append(tab.complaints, string(params))
	case "Log.entryAdded", "Runtime.consoleAPICalled":
		var said struct {
			Type  string
			Entry struct{ Level, Text, URL string }
		}
		if err := json.Unmarshal(params, &said); err != nil || said.Type == "error" || said.Entry.Level == "error" {
			tab.complaints = append(tab.complaints, string(params))
		}
	}
}

// Complaints gives, once, what the page has complained about.
func (tab *Tab) Complaints() []string {
	tab.browser.mu.Lock()
	defer tab.browser.mu.Unlock()
	complaints := tab.complaints
	tab.complaints = nil
	return complaints
}

// Go navigates. The page may still be loading when it returns.
func (tab *Tab) Go(t testing.TB, url string) {
	t.Helper()
	var loaded struct{ ErrorText string }
	tab.call(t, "Page.navigate", map[string]any{"url": url}, &loaded)
	if loaded.ErrorText != "" {
		t.Fatalf("go to %s: %s", url, loaded.ErrorText)
	}
}

// Eval evaluates an expression, or the promise that it gives, and reads its value into result unless that is nil.
func (tab *Tab) Eval(t testing.TB, expression string, result any) {
	t.Helper()
	if err := tab.eval(t.Context(), expression, result); err != nil {
		t.Fatal(err)
	}
}

func (tab *Tab) eval(ctx context.Context, expression string, result any) error {
	ctx, cancel := context.WithTimeout(ctx, tabPatience)
	defer cancel()
	var done struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := tab.browser.call(ctx, tab.session, "Runtime.evaluate",
		map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true}, &done)
	switch {
	case err != nil:
		return err
	case done.ExceptionDetails != nil:
		return fmt.Errorf("%s: %s %s", expression, done.ExceptionDetails.Text, done.ExceptionDetails.Exception.Description)
	case result == nil:
		return nil
	}
	return json.Unmarshal(done.Result.Value, result)
}

// Await waits until an expression is true.
func (tab *Tab) Await(t testing.TB, patience time.Duration, expression string) {
	t.Helper()
	Eventually(t, patience, expression, func() error {
		var yes bool
		err := tab.eval(t.Context(), "Boolean("+expression+")", &yes)
		if err == nil && !yes {
			err = fmt.Errorf("it is false")
		}
		return err
	})
}

// Text is what a person sees of the first element that a selector finds.
func (tab *Tab) Text(t testing.TB, selector string) string {
	t.Helper()
	var text string
	tab.Eval(t, fmt.Sprintf("document.querySelector(%q).innerText", selector), &text)
	return text
}

// Show makes the tab a screen of some width and height, in CSS pixels, that prefers light or dark.
func (tab *Tab) Show(t testing.TB, width, height int, dark bool) {
	t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	tab.call(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	tab.call(t, "Emulation.setEmulatedMedia", map[string]any{"features": []any{
		map[string]any{"name": "prefers-color-scheme", "value": scheme},
		map[string]any{"name": "prefers-reduced-motion", "value": "reduce"}, // pictures and measures of what has come to rest
	}}, nil)
}

// Press presses and releases a key that has no character: Tab, Enter.
func (tab *Tab) Press(t testing.TB, key string, code int) {
	t.Helper()
	event := map[string]any{"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code}
	if key == "Enter" {
		event["text"] = "\r"
	}
	tab.call(t, "Input.dispatchKeyEvent", event, nil)
	tab.call(t, "Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code}, nil)
}

// Picture is a PNG of the whole page.
func (tab *Tab) Picture(t testing.TB) []byte {
	t.Helper()
	var page struct {
		CSSContentSize struct{ Width, Height float64 }
	}
	tab.call(t, "Page.getLayoutMetrics", nil, &page)
	clip := map[string]any{"x": 0, "y": 0, "width": page.CSSContentSize.Width, "height": page.CSSContentSize.Height, "scale": 1}
	var picture struct{ Data []byte }
	tab.call(t, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true, "clip": clip}, &picture)
	return picture.Data
}
