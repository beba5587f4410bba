package front

import (
	"fmt"
	"html"
	"net/http"
)

// Page answers with a page that says one thing to a person.
func Page(w http.ResponseWriter, status int, title, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, HTML(title, text))
}

// HTML is the page itself.
func HTML(title, text string) string {
	return fmt.Sprintf(`<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>%[1]s</title>
<body style="font:16px system-ui;max-width:40em;margin:15vh auto;padding:0 1em;color-scheme:light dark"><h1>%[1]s</h1><p>%[2]s</p>
`, html.EscapeString(title), html.EscapeString(text))
}
