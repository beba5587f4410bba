//go:build https

package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
)

// canSecure says that https is understood.
const canSecure = true

// secure encrypts a connection to a server that proves to be name, by a certificate that the authorities in caFile vouch for,
// or those of the system if it is empty.
func secure(ctx context.Context, raw net.Conn, name, caFile string) (net.Conn, error) {
	config := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile) //nolint:gosec // the pod's own environment names it
		if err != nil {
			return nil, usagef("TIPHYS_CA_FILE: %v", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usagef("TIPHYS_CA_FILE: %s has no certificate", caFile)
		}
	}
	conn := tls.Client(raw, config)
	err := conn.HandshakeContext(ctx)
	var unproved *tls.CertificateVerificationError
	switch {
	case errors.As(err, &unproved):
		// Waiting does not change it, and nothing was told to whoever answered.
		return nil, fmt.Errorf("the server does not prove to be %s: %w (TIPHYS_CA_FILE names who vouches for it)", name, unproved)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errAway, err)
	}
	return conn, nil
}
