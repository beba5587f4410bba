package wire

import (
	"github.com/tiphys/tiphys/event/source"
	calendarsource "github.com/tiphys/tiphys/event/source/calendar"
	"github.com/tiphys/tiphys/event/source/hook"
)

// SourceKinds are the kinds of event sources that this program has.
func SourceKinds() (source.Kinds, error) {
	return source.NewKinds(append(hook.Kinds(), calendarsource.Kind{})...)
}
