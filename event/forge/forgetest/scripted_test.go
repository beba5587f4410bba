package forgetest_test

import (
	"context"
	"testing"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/forge/forgetest"
	"github.com/tiphys/tiphys/secret"
)

type credentials string

func (c credentials) Token(context.Context) (secret.Value, error) { return secret.New(string(c)), nil }

// A forge elsewhere, over a network, fits the interface.
func TestScripted(t *testing.T) {
	forgetest.Run(t, func(t *testing.T) (forge.Forge, forgetest.Fixture) {
		s := forgetest.NewScripted(t)
		return s.Client(credentials(forgetest.ScriptedToken)), s.Fixture()
	})
}
