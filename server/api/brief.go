package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/workflow"
)

// briefNode is a node as it is shown among thousands: without what went in and came out, which may be large. The names are
// those of [workflow.Node].
type briefNode struct {
	ID           string             `json:"id"`
	Name         string             `json:"name"`
	DisplayName  string             `json:"displayName,omitempty"`
	Type         workflow.NodeType  `json:"type"`
	TemplateName string             `json:"templateName,omitempty"`
	Phase        workflow.Phase     `json:"phase,omitempty"`
	BoundaryID   string             `json:"boundaryID,omitempty"`
	Message      string             `json:"message,omitempty"`
	StartedAt    *time.Time         `json:"startedAt"`
	FinishedAt   *time.Time         `json:"finishedAt"`
	Progress     string             `json:"progress,omitempty"`
	NodeFlag     *workflow.NodeFlag `json:"nodeFlag,omitempty"`
	Waiting      string             `json:"synchronizationStatus,omitempty"`
	Why          string             `json:"why,omitempty"`
	Attempt      int                `json:"attempt,omitempty"`
	Daemoned     *bool              `json:"daemoned,omitempty"`
	Parent       string             `json:"parent,omitempty"`
	After        []string           `json:"after,omitempty"`
	Order        int                `json:"order,omitempty"`
}

// briefMessage is how much of a message a node among thousands says, in bytes.
const briefMessage = 500

// briefBody shortens the rows of nodes; the others stay as they are.
func briefBody(row ledger.Row) (json.RawMessage, error) {
	if row.Table != "node" {
		return nil, nil
	}
	n, err := brief(row)
	if err != nil {
		return nil, err
	}
	return json.Marshal(n)
}

func brief(row ledger.Row) (n briefNode, err error) {
	if err = json.Unmarshal(row.Body, &n); err != nil {
		return n, fmt.Errorf("decode node %s: %w", row.Key, err)
	}
	if len(n.Message) > briefMessage {
		n.Message = strings.ToValidUTF8(n.Message[:briefMessage], "") + "…"
	}
	return n, nil
}
