package clients_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/tiphys/tiphys/keeper/clients"
)

func address(text string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(text), Port: 1} }

// One client takes no more than its places, by whichever of its addresses, and has them again when its connections end.
func TestCrowd(t *testing.T) {
	c := clients.NewCrowd(2)
	enter := func(from string, want bool) func() {
		t.Helper()
		leave, ok := c.Enter(address(from))
		if ok != want {
			t.Fatalf("%s enters: %t, want %t", from, ok, want)
		}
		return leave
	}
	first := enter("203.0.113.1", true)
	enter("::ffff:203.0.113.1", true)
	enter("203.0.113.1", false)
	enter("203.0.113.2", true)
	first()
	first() // once is enough
	enter("203.0.113.1", true)
	enter("203.0.113.1", false)
	enter("2001:db8:0:1::1", true)
	enter("2001:db8:0:1::2", true)
	enter("2001:db8:0:1::3", false) // one machine has the whole /64
	enter("2001:db8:0:2::1", true)
	for range 32 {
		enter("127.0.0.1", true)
	}
	enter("127.0.0.1", false)
	c.Bound(0)
	enter("127.0.0.1", true)
	if _, ok := c.Enter(&net.UnixAddr{Name: "x"}); !ok {
		t.Error("a socket of this machine is refused")
	}
}

// A listener closes what is too much, and takes the next.
func TestCrowdedListener(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := clients.NewCrowd(1).Listener(plain)
	t.Cleanup(func() { _ = l.Close() })
	taken := make(chan net.Conn, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(taken)
				return
			}
			taken <- conn
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", plain.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		return conn
	}
	var there []net.Conn
	for range 16 {
		dial()
		there = append(there, <-taken)
	}
	if _, err := dial().Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("one too many reads %v, want the end", err)
	}
	_ = there[0].Close()
	dial()
	if conn := <-taken; conn == nil {
		t.Error("nobody has the place of who has left")
	}
}
