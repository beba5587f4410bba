package front

import (
	"net"
	"testing"
	"time"
)

// One client has no more sessions than its bound, and its newest are served; a session of one question ends sooner than a conversation.
func TestSessionsOfDatagrams(t *testing.T) {
	var lc net.ListenConfig
	pod, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	go func() {
		buffer := make([]byte, 100)
		for {
			n, from, err := pod.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = pod.WriteTo(buffer[:n], from)
		}
	}()
	free, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.LocalAddr().String()
	_ = free.Close()
	f := New(Options{})
	defer f.Close()
	if err := f.Set(Table{Ports: []Port{{Address: at, Protocol: UDP, Endpoints: []Endpoint{{Address: pod.LocalAddr().String(), Backend: "pod"}}}}}); err != nil {
		t.Fatal(err)
	}
	for i := range clientSessions + 50 {
		conn, err := net.Dial("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, err = conn.Write([]byte("x"))
		if err == nil {
			_, err = conn.Read(make([]byte, 10))
		}
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		_ = conn.Close()
	}
	f.mu.Lock()
	d := f.flows[at]
	f.mu.Unlock()
	d.mu.Lock()
	there := len(d.sessions)
	d.mu.Unlock()
	if there != clientSessions {
		t.Errorf("one client has %d sessions, want %d", there, clientSessions)
	}
	if !f.Idle() { // some 300 ms after the last datagram
		deadline := time.Now().Add(time.Minute)
		for !f.Idle() && time.Now().Before(deadline) {
			<-time.After(drainLook)
		}
	}
	if !f.Idle() {
		t.Error("silent sessions keep a front busy")
	}
	s := &session{}
	began := time.Unix(1_800_000_000, 0)
	s.last.Store(began.UnixNano())
	for _, c := range []struct {
		asked, told int64
		want        time.Duration
	}{{0, 0, quickIdle}, {1, 1, quickIdle}, {2, 1, longIdle}, {1, 2, longIdle}} {
		s.asked.Store(c.asked)
		s.told.Store(c.told)
		if got := s.until().Sub(began); got != c.want {
			t.Errorf("after %d questions and %d answers: %s, want %s", c.asked, c.told, got, c.want)
		}
	}
}
