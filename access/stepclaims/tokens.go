package stepclaims

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tiphys/tiphys/access/steptoken"
	"github.com/tiphys/tiphys/executor"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/secret"
	"github.com/tiphys/tiphys/workflow"
)

// Tokens makes the tokens of attempts.
type Tokens struct {
	Issuer *steptoken.Issuer
	Claims Reader
}

// Token gives an attempt its token. An error is one of the record, which may be read later.
func (t Tokens) Token(ctx context.Context, run workflow.Run, id executor.ID) (secret.Value, error) {
	c, err := t.Claims.Of(ctx, run)
	if err != nil {
		return secret.Value{}, err
	}
	c.Node, c.Attempt = id.Node, id.Attempt
	return t.Issuer.Issue(c)
}

// Attempts tells which attempts still run.
type Attempts struct{ Ledger ledger.Reader }

// Alive tells whether the attempt that holds a token still runs: its run and its node go on, and the node is not at a later attempt. The
// error is one of the record.
func (a Attempts) Alive(ctx context.Context, c steptoken.Claims) (bool, error) {
	var run workflow.Run
	if found, err := a.read(ctx, "run", c.Run, &run); !found || err != nil {
		return false, err
	}
	var node workflow.Node
	if found, err := a.read(ctx, "node", c.Run+"/"+c.Node, &node); !found || err != nil {
		return false, err
	}
	return run.UID == c.UID && !run.Phase.Done() && !node.Phase.Done() && node.Attempt == c.Attempt, nil
}

// read reads one row's body; found is false if there is no such row.
func (a Attempts) read(ctx context.Context, table, key string, body any) (found bool, err error) {
	row, err := a.Ledger.Row(ctx, table, key)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(row.Body, body); err != nil {
		return false, fmt.Errorf("read %s %s: %w", table, key, err)
	}
	return true, nil
}
