package events

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"

	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/event/sensor"
	"github.com/tiphys/tiphys/manifest"
	"github.com/tiphys/tiphys/secret"
)

// request carries out an http trigger. Unlike in Argo an answer of 400 or more is a failure unless the policy
// allows it.
func (c *Controller) request(ctx context.Context, f sensor.Firing) (string, error) {
	h := f.Template.HTTP
	ctx = egress.For(ctx, "http.url")
	req, err := newRequest(ctx, f)
	if err != nil {
		return "", fmt.Errorf("make request: %w: %w", err, errFinal)
	}
	if err := c.credentials(ctx, namespaceOf(f), h, req); err != nil {
		return "", err
	}
	for k, v := range f.Headers {
		req.Header.Set(k, v)
	}
	client := &http.Client{CheckRedirect: withinHost, Transport: c.o.Egress.Shared()}
	if h.TLS != nil {
		config, err := c.tlsConfig(ctx, namespaceOf(f), h.TLS)
		if err != nil {
			return "", err
		}
		own := c.o.Egress.Transport(egress.HTTP{TLS: config})
		client.Transport = own
		defer own.CloseIdleConnections()
	}
	resp, err := client.Do(req)
	if _, refused := egress.Refused(err); refused {
		return "", finally(err)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", fmt.Errorf("%s %s: %w", req.Method, req.URL.Redacted(), err)
	}
	defer resp.Body.Close()
	allowed := resp.StatusCode < http.StatusBadRequest
	if f.Policy != nil && f.Policy.Status != nil {
		allowed = false
		for _, code := range f.Policy.Status.Allow {
			allowed = allowed || int(code) == resp.StatusCode
		}
	}
	if !allowed {
		return "", fmt.Errorf("%s %s answered %s", req.Method, req.URL.Redacted(), resp.Status)
	}
	return resp.Status, nil
}

// finally gives a refusal alone, and as one that another try does not change.
func finally(err error) error {
	if refusal, refused := egress.Refused(err); refused {
		return fmt.Errorf("%w: %w", refusal, errFinal)
	}
	return err
}

// withinHost follows a request no further than its own host: net/http takes all headers along, secret ones too, but those that it
// knows.
func withinHost(next *http.Request, before []*http.Request) error {
	if first := before[0].URL; next.URL.Host != first.Host || next.URL.Scheme != first.Scheme {
		return fmt.Errorf("it was sent on to %s, and its headers are for %s: write the address that is meant", next.URL.Host, first.Host)
	}
	if len(before) >= 10 {
		return errors.New("it was sent on 10 times")
	}
	return nil
}

// newRequest makes the request without what is secret.
func newRequest(ctx context.Context, f sensor.Firing) (*http.Request, error) {
	h := f.Template.HTTP
	method := h.Method
	if method == "" {
		method = http.MethodPost
	}
	body := []byte(f.Payload)
	if f.PlainPayload {
		var text string
		if err := json.Unmarshal(f.Payload, &text); err != nil {
			return nil, fmt.Errorf("read payload: %w", err)
		}
		body = []byte(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, h.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if !f.PlainPayload {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Idempotency-Key", f.Key)
	for k, v := range h.Headers {
		req.Header.Set(k, v)
	}
	// net/http takes the host from the request, not from its headers.
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	if h.Host != "" {
		req.Host = h.Host
	}
	return req, nil
}

// credentials puts what is kept in Secrets and ConfigMaps into the request.
func (c *Controller) credentials(ctx context.Context, namespace string, h *manifest.HTTPTrigger, req *http.Request) error {
	for _, s := range h.SecureHeaders {
		from := s.ValueFrom
		switch {
		case from != nil && from.SecretKeyRef != nil:
			value, err := c.secret(ctx, namespace, from.SecretKeyRef)
			if err != nil {
				return fmt.Errorf("header %s: %w", s.Name, err)
			}
			req.Header.Set(s.Name, value.Reveal())
		case from != nil && from.ConfigMapKeyRef != nil:
			value, err := c.configMap(ctx, namespace, from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Key)
			if err != nil {
				return fmt.Errorf("header %s: %w", s.Name, err)
			}
			req.Header.Set(s.Name, string(value))
		default:
			return fmt.Errorf("header %s has no valueFrom: %w", s.Name, errFinal)
		}
	}
	if h.BasicAuth == nil {
		return nil
	}
	user, err := c.secret(ctx, namespace, h.BasicAuth.Username)
	if err != nil {
		return fmt.Errorf("user name: %w", err)
	}
	password, err := c.secret(ctx, namespace, h.BasicAuth.Password)
	if err != nil {
		return fmt.Errorf("password: %w", err)
	}
	req.SetBasicAuth(user.Reveal(), password.Reveal())
	return nil
}

// secret reads a key of a Secret; a selector that is not there is an empty value, as in Argo.
func (c *Controller) secret(ctx context.Context, namespace string, from *corev1.SecretKeySelector) (secret.Value, error) {
	if from == nil {
		return secret.Value{}, nil
	}
	v, err := c.o.Secrets.Secret(ctx, namespace, from.Name, from.Key)
	if err != nil {
		return v, fmt.Errorf("read secret %s/%s key %s: %w", namespace, from.Name, from.Key, err)
	}
	return v, nil
}

func (c *Controller) tlsConfig(ctx context.Context, namespace string, t *manifest.TLSConfig) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: t.InsecureSkipVerify, //nolint:gosec // the trigger asks for it by name
	}
	if t.CACertSecret != nil {
		ca, err := c.secret(ctx, namespace, t.CACertSecret)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(ca.Reveal())) {
			return nil, fmt.Errorf("secret %s/%s key %s holds no certificate in PEM: %w", namespace, t.CACertSecret.Name, t.CACertSecret.Key, errFinal)
		}
	}
	if t.ClientCertSecret == nil || t.ClientKeySecret == nil {
		return config, nil
	}
	cert, err := c.secret(ctx, namespace, t.ClientCertSecret)
	if err != nil {
		return nil, err
	}
	key, err := c.secret(ctx, namespace, t.ClientKeySecret)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair([]byte(cert.Reveal()), []byte(key.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("client certificate of secret %s/%s: %w: %w", namespace, t.ClientCertSecret.Name, err, errFinal)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}
