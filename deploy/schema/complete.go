package schema

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tiphys/tiphys/failure"
)

// Version is that of Kubernetes' rules. What was completed by another may lack defaults of this one.
const Version = "1.36"

// Complete gives an object as Kubernetes would keep it: with the defaults of its kind, and without what is null. Metadata and status are left as
// they are. An object of another kind is given back as a copy.
func Complete(o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	done := o.DeepCopy()
	k, known := kindOf(o.GroupVersionKind())
	if !known {
		return done, nil
	}
	typed, err := k.read(o)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(typed)
	if err != nil {
		return nil, failure.Invalidf("write the object: %v", err)
	}
	full := &unstructured.Unstructured{}
	if err := full.UnmarshalJSON(raw); err != nil {
		return nil, failure.Invalidf("read the object: %v", err)
	}
	for _, own := range []string{"apiVersion", "kind", "metadata", "status"} {
		if value, there := done.Object[own]; there {
			full.Object[own] = value
		} else {
			delete(full.Object, own)
		}
	}
	return full, nil
}
