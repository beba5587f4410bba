package client

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"
)

// client makes requests for one command.
type client struct {
	sys   system
	args  []string
	nonce string
	count int
}

// request is one request; it can be made again from the beginning.
type request struct {
	method, path string
	contentType  string
	body         io.ReadSeeker
	// digest has the server compare what arrives with what is sent.
	digest bool
	// into takes the body of a success, from its beginning at each attempt.
	into *os.File
	// mayFail makes 404 an answer rather than an error.
	mayFail bool
}

// answer is what the server said.
type answer struct {
	status int
	body   []byte // at most maxAnswer, and empty if it went to request.into
}

// maxAnswer is the longest answer that is kept in memory, in bytes.
const maxAnswer = 16 << 20

// errAway says that the server cannot be talked to now; it may be restarting.
var errAway = errors.New("the server is away")

// do makes a request, again and again while the server is away.
func (c *client) do(ctx context.Context, r request) (answer, error) {
	limit, err := c.timeout()
	if err != nil {
		return answer{}, err
	}
	key := c.key()
	first := c.sys.now()
	for pause := 50 * time.Millisecond; ; pause = min(pause*2, 2*time.Second) {
		a, err := c.once(ctx, r, key, limit)
		if err == nil && (a.status/100 == 2 || (r.mayFail && a.status == 404)) {
			return a, nil
		}
		again := errors.Is(err, errAway) || (err == nil && a.status >= 502 && a.status <= 504)
		if err == nil {
			err = refusal(a)
		}
		if !again {
			return answer{}, err
		}
		if c.sys.now().Sub(first) >= limit {
			return answer{}, fmt.Errorf("%w; it was tried for %s (TIPHYS_TIMEOUT)", err, limit)
		}
		if err := c.sys.wait(ctx, pause); err != nil {
			return answer{}, err
		}
	}
}

// key names a request, so that the server knows a repeat.
func (c *client) key() string {
	if c.nonce == "" {
		c.nonce = rand.Text()
	}
	c.count++
	h := sha256.New()
	for _, part := range append([]string{c.sys.getenv("TIPHYS_TOKEN"), c.nonce, strconv.Itoa(c.count)}, c.args...) {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// refusal is an answer other than 2xx as an error.
func refusal(a answer) error {
	var said struct {
		Message string `json:"message"`
		Hint    string `json:"hint"`
		Errors  []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	var text string
	if json.Unmarshal(a.body, &said) == nil {
		text = said.Message
		if text == "" && len(said.Errors) > 0 {
			text = said.Errors[0].Message
		}
	} else {
		text = strings.TrimSpace(string(a.body[:min(len(a.body), 512)]))
	}
	if text == "" {
		text = "the server answered with status " + strconv.Itoa(a.status)
	}
	if said.Hint != "" {
		text += "\n  " + said.Hint
	}
	return errors.New(text)
}

// once makes one attempt. A connection that is idle for longer than limit is given up.
func (c *client) once(ctx context.Context, r request, key string, limit time.Duration) (answer, error) {
	way, err := c.transport()
	if err != nil {
		return answer{}, err
	}
	token, err := c.token()
	if err != nil {
		return answer{}, err
	}
	raw, err := way.dial(ctx, limit, c.sys.getenv("TIPHYS_CA_FILE"))
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = raw.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	conn := impatient{raw, limit}
	sendErr := send(conn, r, way.host, token, key)
	if errors.Is(sendErr, errInput) {
		return answer{}, sendErr
	}
	// Even if not all could be sent there may be an answer: a server that refuses does not read on.
	a, err := receive(conn, r)
	if err != nil && sendErr != nil {
		err = sendErr
	}
	if err != nil && !errors.Is(err, errOutput) {
		return answer{}, fmt.Errorf("%w: %w", errAway, err)
	}
	return a, err
}

// impatient is a connection on which something must happen all the time.
type impatient struct {
	net.Conn
	limit time.Duration
}

func (i impatient) Read(p []byte) (int, error) {
	if err := i.SetReadDeadline(time.Now().Add(i.limit)); err != nil {
		return 0, err
	}
	return i.Conn.Read(p)
}

func (i impatient) Write(p []byte) (int, error) {
	if err := i.SetWriteDeadline(time.Now().Add(i.limit)); err != nil {
		return 0, err
	}
	return i.Conn.Write(p)
}

var (
	errInput  = errors.New("the input cannot be read")
	errOutput = errors.New("the output cannot be written")
)

func send(w io.Writer, r request, host, token, key string) error {
	var size int64
	if r.body != nil {
		end, err := r.body.Seek(0, io.SeekEnd)
		if err == nil {
			_, err = r.body.Seek(0, io.SeekStart)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errInput, err)
		}
		size = end
	}
	head := r.method + " " + r.path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: tiphys-step\r\nConnection: close\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	if r.method != "GET" && r.method != "HEAD" {
		head += "Idempotency-Key: " + key + "\r\nContent-Length: " + strconv.FormatInt(size, 10) + "\r\n"
	}
	if r.digest && r.body != nil {
		sum, err := digestOf(r.body)
		if err != nil {
			return fmt.Errorf("%w: %w", errInput, err)
		}
		head += "Content-Digest: " + sum + "\r\n"
	}
	if r.contentType != "" {
		head += "Content-Type: " + r.contentType + "\r\n"
	}
	if _, err := io.WriteString(w, head+"\r\n"); err != nil {
		return err
	}
	if r.body == nil {
		return nil
	}
	n, err := io.Copy(w, io.LimitReader(r.body, size))
	if err == nil && n != size {
		return fmt.Errorf("%w: it was shortened while it was sent", errInput)
	}
	return err
}

// digestOf is the digest of a body as RFC 9530 writes it; the body is then at its beginning.
func digestOf(body io.ReadSeeker) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, body); err != nil {
		return "", err
	}
	_, err := body.Seek(0, io.SeekStart)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(h.Sum(nil)) + ":", err
}

// receive reads the answer, past any interim ones.
func receive(conn io.Reader, r request) (answer, error) {
	// What a header may have is limited, because textproto reads lines of any length.
	head := &io.LimitedReader{R: conn, N: 1 << 20}
	br := bufio.NewReader(head)
	tp := textproto.NewReader(br)
	var a answer
	var h textproto.MIMEHeader
	for {
		line, err := tp.ReadLine()
		if err != nil {
			return a, err
		}
		proto, rest, _ := strings.Cut(line, " ")
		code, _, _ := strings.Cut(rest, " ")
		if a.status, err = strconv.Atoi(code); err != nil || !strings.HasPrefix(proto, "HTTP/1.") {
			return a, fmt.Errorf("the answer begins with %.40q, which is not HTTP", line)
		}
		if h, err = tp.ReadMIMEHeader(); err != nil {
			return a, err
		}
		if a.status/100 != 1 {
			break
		}
	}
	head.N = 1 << 62
	if r.method == "HEAD" || a.status == 204 || a.status == 304 {
		return a, nil
	}
	body, err := bodyOf(br, h)
	if err != nil {
		return a, err
	}
	if r.into != nil && a.status/100 == 2 {
		return a, fill(r.into, body)
	}
	a.body, err = io.ReadAll(io.LimitReader(body, maxAnswer))
	return a, err
}

// fill writes a body to a file from its beginning.
func fill(f *os.File, body io.Reader) error {
	_, err := f.Seek(0, io.SeekStart)
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	// io.Copy does not say which side failed; a full disk is no reason to try again.
	out := &noting{w: f}
	if _, err := io.Copy(out, body); err != nil {
		if out.err != nil {
			return fmt.Errorf("%w: %w", errOutput, out.err)
		}
		return err
	}
	return nil
}

type noting struct {
	w   io.Writer
	err error
}

func (n *noting) Write(p []byte) (int, error) {
	k, err := n.w.Write(p)
	if err != nil {
		n.err = err
	}
	return k, err
}

// bodyOf returns the body that the headers announce (RFC 9112, section 6). It ends with io.ErrUnexpectedEOF if the
// connection breaks before.
func bodyOf(br *bufio.Reader, h textproto.MIMEHeader) (io.Reader, error) {
	if te := h.Get("Transfer-Encoding"); te != "" {
		if !strings.EqualFold(te, "chunked") {
			return nil, fmt.Errorf("the answer has the transfer encoding %q", te)
		}
		return &chunked{br: br}, nil
	}
	if cl := h.Get("Content-Length"); cl != "" {
		n, err := strconv.ParseInt(cl, 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("the answer has the length %q", cl)
		}
		return &exactly{r: br, left: n}, nil
	}
	return br, nil
}

// exactly reads left bytes, and fails if there are fewer.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// chunked reads a body in chunks (RFC 9112, section 7.1); extensions and trailers are read over.
type chunked struct {
	br   *bufio.Reader
	left int64
	open bool // within a chunk, whose line break is still to come
	done bool
}

func (c *chunked) Read(p []byte) (int, error) {
	for c.left == 0 {
		if c.done {
			return 0, io.EOF
		}
		if err := c.next(); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	n, err := c.br.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *chunked) next() error {
	if c.open {
		if line, err := c.line(); err != nil || line != "" {
			return errors.Join(err, errors.New("a chunk of the answer does not end where it should"))
		}
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	size, _, _ := strings.Cut(line, ";")
	n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("a chunk of the answer has the size %.20q", size)
	}
	c.left, c.open = n, true
	for n == 0 && !c.done {
		line, err := c.line()
		if err != nil {
			return err
		}
		c.done = line == ""
	}
	return nil
}

func (c *chunked) line() (string, error) {
	b, err := c.br.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
