package keeper

import (
	"bytes"
	"net/url"
)

// verdict says whose a connection is, by its first request.
type verdict int

const (
	unknown verdict = iota // more has to be read
	servers                // the server's: it is passed on, and never seen again here
	keepers                // an application's, or what is no HTTP: it is answered here
)

// maxRead is how much of a request is read to find its host, in bytes.
const maxRead = 16 << 10

// sort looks for the host of the first request. It only decides which of two HTTP servers reads the connection, and either one can
// deal with any request: so it need not be as strict as they are.
func (o Own) sort(read []byte) verdict {
	line, rest, whole := bytes.Cut(read, []byte("\n"))
	if !whole {
		return tooMuch(read)
	}
	parts := bytes.Fields(line)
	if len(parts) != 3 || !bytes.HasPrefix(parts[2], []byte("HTTP/1.")) {
		return keepers // HTTP/2, or none
	}
	if target := string(parts[1]); target[0] != '/' {
		if u, err := url.Parse(target); err == nil && u.Host != "" {
			return o.verdict(u.Host)
		}
	}
	for {
		line, rest, whole = bytes.Cut(rest, []byte("\n"))
		if !whole {
			return tooMuch(read)
		}
		name, value, isHeader := bytes.Cut(line, []byte(":"))
		if !isHeader {
			return keepers // the end of the headers, without a host
		}
		if bytes.EqualFold(name, []byte("host")) {
			return o.verdict(string(bytes.TrimSpace(value)))
		}
	}
}

func (o Own) verdict(host string) verdict {
	if o.Has(host) {
		return servers
	}
	return keepers
}

func tooMuch(read []byte) verdict {
	if len(read) >= maxRead {
		return keepers
	}
	return unknown
}
