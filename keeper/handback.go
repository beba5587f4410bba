package keeper

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
)

// ServeHTTP gives a request for an application back to the keeper, with its connection: a client, a proxy most likely, that first
// asked for one of our own pages and then for an application. From now on the keeper serves this connection.
func (c *Client) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		// One that the keeper reads already: the two do not agree on whose name this is.
		http.Error(w, "this host name is not the server's", http.StatusMisdirectedRequest)
		return
	}
	defer conn.Close()
	b, ok := conn.(*begun)
	if !ok {
		return
	}
	tcp, ok := b.Conn.(interface{ File() (*os.File, error) })
	if !ok {
		return
	}
	read := head(r)
	rest, err := buffered.Reader.Peek(buffered.Reader.Buffered())
	read = append(append(read, rest...), b.read...)
	var file *os.File
	if err == nil {
		file, err = tcp.File()
	}
	if err != nil {
		c.o.Log.Warn("a connection could not be given back", "error", err)
		return
	}
	defer func() { _ = file.Close() }()
	c.mu.Lock()
	a := c.asker
	c.mu.Unlock()
	if a == nil {
		return // the client asks again
	}
	if err := a.link.send(message{Op: opConn, Read: read}, file); err != nil {
		c.o.Log.Debug("a connection could not be given back", "error", err)
	}
}

// head is a request's head as it was read. The web server took the host and how the body is sent out of the headers.
func head(r *http.Request) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Proto, r.Host)
	if len(r.TransferEncoding) > 0 {
		fmt.Fprintf(&b, "Transfer-Encoding: %s\r\n", strings.Join(r.TransferEncoding, ", "))
	}
	for name := range r.Trailer {
		fmt.Fprintf(&b, "Trailer: %s\r\n", name)
	}
	_ = r.Header.Write(&b) // into memory
	b.WriteString("\r\n")
	return b.Bytes()
}
