package admin

import (
	_ "embed"
	"html/template"
	"io"
	"net/http"
)

// The page is for a person with a browser. What it says of the state is in the HTML, for a browser without scripts; its
// script asks /status each second and /history every five, and fills in the rest. It sends nothing else: nothing can be
// changed from it, and what it is shown it puts in as text, never as markup.
//
// Where a token is needed, the browser asks for it by itself, since guard answers a request without one with a challenge for
// HTTP Basic: any user name, the token as the password. The browser then sends it with the script's requests too, and
// forgets it when it is closed. So no token is in a URL, in a cookie, or where a script could read it.
var (
	//go:embed page/page.html
	pageHTML     string
	pageTemplate = template.Must(template.New("page").Parse(pageHTML))
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string
)

// contentPolicy lets the page have what comes from this endpoint, and nothing else in the world.
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	pageHeader(w, "text/html; charset=utf-8")
	_ = pageTemplate.Execute(w, s.Relay.Status()) // the client has gone
}

// pageFile serves one of the page's files.
func pageFile(contentType, content string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		pageHeader(w, contentType)
		_, _ = io.WriteString(w, content) // the client has gone
	}
}

func pageHeader(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store") // the script of one version must not meet the page of another
	w.Header().Set("Content-Security-Policy", contentPolicy)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
}
