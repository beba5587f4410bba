package forge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/event"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/secret"
)

// How a delivery was verified: the values of event.Event.Verified.
const (
	VerifiedNone     = "none"
	VerifiedToken    = "token"
	VerifiedHMAC     = "hmac-sha256"
	VerifiedStandard = "standard-webhooks"
)

// Proved says whether the built-in remote made an event, and whether it is known who sent it: the built-in remote, or whoever has the
// secret of its source. What an event leads to that nobody proved acts for nobody.
func Proved(e event.Event) (own, proved bool) {
	own = e.Type == "git" && e.Git != nil && e.Git.Forge == TypeBuiltin
	return own, own || e.Verified != "" && e.Verified != VerifiedNone
}

// ErrSignature says that a delivery does not prove that it comes from who knows the secret.
var ErrSignature = failure.New(failure.Unauthenticated, "signature or token does not match")

// ReplayWindow is how far a Standard Webhooks timestamp may be from now, either way.
const ReplayWindow = 5 * time.Minute

// Secrets are what a source expects its deliveries to prove. A nil pointer asks for nothing; an empty secret is
// never proof of anything and is refused.
type Secrets struct {
	// Token is compared with X-Gitlab-Token.
	Token *secret.Value
	// Signing is a Standard Webhooks key ("whsec_" and base64, or plain).
	Signing *secret.Value
	// HMAC is the key of an HMAC-SHA256 over the body.
	HMAC *secret.Value
	// HMACHeader is where a generic sender puts it; default X-Hub-Signature-256.
	HMACHeader string
	// Bearer is compared with the Authorization header.
	Bearer *secret.Value
}

// Verify proves a delivery on its raw bytes, in constant time, by everything that s asks for. It gives the
// strongest method. The error wraps [ErrSignature]. now is compared with signed timestamps.
func Verify(forge string, h http.Header, body []byte, s Secrets, now time.Time) (string, error) {
	method := VerifiedNone
	if s.Bearer != nil {
		scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || !sameSecret(strings.TrimSpace(token), *s.Bearer) {
			return "", fmt.Errorf("verify delivery: the bearer token in Authorization is missing or wrong: %w", ErrSignature)
		}
		method = VerifiedToken
	}
	if s.Token != nil {
		if !sameSecret(h.Get("X-Gitlab-Token"), *s.Token) {
			return "", fmt.Errorf("verify delivery: X-Gitlab-Token is missing or wrong: %w", ErrSignature)
		}
		method = VerifiedToken
	}
	if s.HMAC != nil {
		name, given := signatureHeader(forge, h, s.HMACHeader)
		if !goodHMAC(given, body, *s.HMAC) {
			return "", fmt.Errorf("verify delivery: %s is missing or wrong: %w", name, ErrSignature)
		}
		method = VerifiedHMAC
	}
	if s.Signing != nil {
		if err := standardWebhook(h, body, *s.Signing, now); err != nil {
			return "", err
		}
		method = VerifiedStandard
	}
	return method, nil
}

// sameSecret compares digests, so that neither content nor length shows in the time taken.
func sameSecret(given string, want secret.Value) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want.Reveal()))
	return hmac.Equal(a[:], b[:]) && !want.IsZero()
}

func signatureHeader(forge string, h http.Header, own string) (name, value string) {
	candidates := []string{"X-Hub-Signature-256"}
	switch {
	case own != "":
		candidates = []string{own}
	case forge == Gitea:
		candidates = []string{"X-Gitea-Signature", "X-Forgejo-Signature", "X-Gogs-Signature", "X-Hub-Signature-256"}
	case forge == Bitbucket, forge == BitbucketServer:
		candidates = []string{"X-Hub-Signature", "X-Hub-Signature-256"}
	}
	for _, name := range candidates {
		if v := h.Get(name); v != "" {
			return name, v
		}
	}
	return candidates[0], ""
}

func goodHMAC(given string, body []byte, key secret.Value) bool {
	if key.IsZero() {
		return false
	}
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	mac.Write(body)
	want := mac.Sum(nil)
	given = strings.TrimPrefix(strings.TrimSpace(given), "sha256=")
	got, err := hex.DecodeString(given)
	if err != nil {
		got, err = base64.StdEncoding.DecodeString(given)
	}
	return err == nil && hmac.Equal(got, want)
}

// standardWebhook follows standardwebhooks.com: an HMAC over "id.timestamp.body", several signatures allowed.
func standardWebhook(h http.Header, body []byte, key secret.Value, now time.Time) error {
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if id == "" || err != nil {
		return fmt.Errorf("verify delivery: webhook-id or webhook-timestamp is missing: %w", ErrSignature)
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > ReplayWindow || age < -ReplayWindow {
		return fmt.Errorf("verify delivery: webhook-timestamp is %s away from this machine's clock, more than %s: %w",
			age.Round(time.Second), ReplayWindow, ErrSignature)
	}
	raw := []byte(key.Reveal())
	if encoded, found := strings.CutPrefix(key.Reveal(), "whsec_"); found {
		if raw, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return fmt.Errorf("verify delivery: the signing key after whsec_ is not base64: %w", ErrSignature)
		}
	}
	if len(raw) == 0 {
		return fmt.Errorf("verify delivery: the signing key is empty: %w", ErrSignature)
	}
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	want := mac.Sum(nil)
	for _, signature := range strings.Fields(h.Get("webhook-signature")) {
		encoded, found := strings.CutPrefix(signature, "v1,")
		if !found {
			continue
		}
		if got, err := base64.StdEncoding.DecodeString(encoded); err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return fmt.Errorf("verify delivery: webhook-signature is missing or wrong: %w", ErrSignature)
}

// DeliveryID names a delivery so that a repetition has the same name: "instance/id"; empty if the sender gives
// none. GitLab's event UUID is shared by the hooks of a chain of events, so the body's digest is added to it.
func DeliveryID(forge string, h http.Header, instance string, body []byte) string {
	var id string
	first := func(names ...string) string {
		for _, name := range names {
			if v := h.Get(name); v != "" {
				return v
			}
		}
		return ""
	}
	switch forge {
	case GitLab:
		if id = first("Idempotency-Key", "webhook-id"); id == "" {
			if chain := h.Get("X-Gitlab-Event-UUID"); chain != "" {
				digest := sha256.Sum256(body)
				id = chain + "-" + hex.EncodeToString(digest[:8])
			}
		}
	case GitHub:
		id = first("X-GitHub-Delivery")
	case Gitea:
		id = first("X-Gitea-Delivery", "X-Forgejo-Delivery", "X-Gogs-Delivery")
	case Bitbucket:
		id = first("X-Request-UUID")
	case BitbucketServer:
		id = first("X-Request-Id")
	default:
		if id = first("Idempotency-Key", "webhook-id"); id == "" && h.Get("ce-id") != "" {
			id = h.Get("ce-source") + "/" + h.Get("ce-id")
		}
	}
	if id == "" {
		return ""
	}
	if len(id) > 256 {
		digest := sha256.Sum256([]byte(id))
		id = hex.EncodeToString(digest[:])
	}
	if instance == "" {
		instance = forge
	}
	return instance + "/" + id
}

// ContentID names a delivery by its body, if method says that the body was signed and not the id with it; empty otherwise.
func ContentID(method, forge, instance string, body []byte) string {
	if method != VerifiedHMAC {
		return ""
	}
	if instance == "" {
		instance = forge
	}
	digest := sha256.Sum256(body)
	return instance + "/content-sha256:" + hex.EncodeToString(digest[:])
}
