package admin

import (
	"html/template"
	"net/http"
)

// page is for a person with a browser.
func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	_ = pageTemplate.Execute(w, s.Relay.Status()) // the client has gone
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Name}} · {{.State}}</title></head>
<body>
<h1>{{.Name}}: {{.State}}</h1>
{{with .Reason}}<p>{{.}}</p>
{{end}}<ul>
<li><a href="/status">/status</a>: all of it, as JSON</li>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/readyz">/readyz</a>: does it relay, or stand by?</li>
<li><a href="/healthz">/healthz</a>: do its loops turn?</li>
</ul>
</body>
</html>
`))
