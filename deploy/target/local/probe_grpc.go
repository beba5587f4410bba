package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// What is said is defined by https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md beside it: one call of
// grpc.health.v1.Health/Check over HTTP/2 without TLS, whose messages have one field each.
const (
	healthCheck  = "/grpc.health.v1.Health/Check"
	grpcHeader   = 5 // of a message: whether it is compressed, and its length
	maxAnswer    = 64 << 10
	fieldService = 1<<3 | 2 // string, in the request
	fieldStatus  = 1 << 3   // number, in the answer
	isServing    = 1
)

// probeGRPC asks a container for its health.
func probeGRPC(ctx context.Context, ip string, g *corev1.GRPCAction) error {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, Proxy: nil, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	address := net.JoinHostPort(ip, strconv.Itoa(int(g.Port)))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+healthCheck, bytes.NewReader(healthRequest(g.Service)))
	if err != nil {
		return err
	}
	request.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {probeAgent}}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: it does not speak gRPC", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	code, text := response.Trailer.Get("Grpc-Status"), response.Trailer.Get("Grpc-Message")
	if code == "" { // an answer without a message
		code, text = response.Header.Get("Grpc-Status"), response.Header.Get("Grpc-Message")
	}
	switch code {
	case "0":
		return healthAnswer(body)
	case "12": // UNIMPLEMENTED
		return errors.New("the application does not serve grpc.health.v1.Health")
	case "5": // NOT_FOUND
		return fmt.Errorf("the application knows no service of this name: %.200s", text)
	}
	return fmt.Errorf("gRPC status %.20q: %.200s", code, text)
}

// healthRequest is the message that asks for a service; the whole application if it is nil or empty.
func healthRequest(service *string) []byte {
	var message []byte
	if service != nil && *service != "" {
		message = append(binary.AppendUvarint([]byte{fieldService}, uint64(len(*service))), *service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

var errNoHealth = errors.New("its answer is no grpc.health.v1.HealthCheckResponse")

// healthAnswer reads the message that says how a service is.
func healthAnswer(body []byte) error {
	if len(body) < grpcHeader || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-grpcHeader {
		return errNoHealth
	}
	status := uint64(0)
	for rest := body[grpcHeader:]; len(rest) > 0; {
		key, n := binary.Uvarint(rest)
		if n <= 0 || key != fieldStatus { // it has no other field
			return errNoHealth
		}
		rest = rest[n:]
		if status, n = binary.Uvarint(rest); n <= 0 {
			return errNoHealth
		}
		rest = rest[n:]
	}
	if status != isServing {
		return fmt.Errorf("it says that it does not serve (status %d)", status)
	}
	return nil
}
