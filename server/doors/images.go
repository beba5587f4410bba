package doors

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/artifact/image"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/server/gate"
	"github.com/tiphys/tiphys/server/steps"
)

// Images is the door of the built-in registry. What comes through it is recorded.
type Images struct {
	Gate   *gate.Gate
	Policy access.Policy
	Ledger ledger.Ledger
	// Fault is called at named points in test builds; nil for none.
	Fault func(point string)
}

var _ image.Door = Images{}

// Enter implements [image.Door].
func (d Images) Enter(r *http.Request, repo string, write bool) error {
	id, err := d.Gate.Enter(r, access.DoorImages)
	if failure.Is(err, failure.Unauthenticated) {
		return image.ErrUnauthenticated
	}
	if err != nil {
		return err
	}
	verb := access.Get
	if write {
		verb = access.Update
	}
	if repo == "" {
		return d.Policy.Some(id, verb, access.Image)
	}
	_, ref, _ := strings.Cut(r.URL.Path, "/manifests/")
	return d.Policy.Can(id, verb, access.Image, "", access.ImageName(repo, ref))
}

// Pushed records an image. A step that pushes it again, because the answer was lost, says nothing new.
func (d Images) Pushed(ctx context.Context, repo, ref, digest string) error {
	if d.Fault != nil {
		d.Fault("image-stored")
	}
	id := gate.From(ctx)
	body := map[string]string{"name": repo, "ref": ref, "digest": digest}
	draft := ledger.Draft{Actor: id.String(), Kind: steps.KindImage, Subject: "image/" + repo + "@" + digest, Body: body}
	if id.Step != nil {
		body["run"], body["node"] = id.Step.Run, id.Step.Node
		row, err := d.Ledger.Row(ctx, "node", id.Step.Run+"/"+id.Step.Node)
		if err != nil {
			return fmt.Errorf("record image: %w", err)
		}
		draft.Cause = ledger.At(row.Seq)
		draft.Unique = fmt.Sprintf("image-pushed/%s/%s/%d/%s:%s@%s", id.Step.Run, id.Step.Node, id.Step.Attempt, repo, ref, digest)
	}
	return d.Ledger.Write(ctx, ledger.Anyone(draft.Subject), func(tx ledger.Tx) error {
		_, err := tx.Append(draft)
		if errors.Is(err, ledger.ErrExists) {
			return nil
		}
		return err
	})
}
