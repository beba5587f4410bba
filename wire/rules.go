package wire

import (
	"github.com/tiphys/tiphys/control/definitions"
	targetlocal "github.com/tiphys/tiphys/deploy/target/local"
	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/event/source"
	calendarsource "github.com/tiphys/tiphys/event/source/calendar"
	"github.com/tiphys/tiphys/event/source/hook"
	"github.com/tiphys/tiphys/executor/local"
)

// SourceKinds are the kinds of event sources that this program has.
func SourceKinds() (source.Kinds, error) {
	return source.NewKinds(append(hook.Kinds(), calendarsource.Kind{})...)
}

// Rules say which definitions this program takes; types are the forges that can be declared, those of [ForgeTypes] if nil.
func Rules(types []forge.Type) (definitions.Rules, error) {
	if types == nil {
		types = ForgeTypes()
	}
	kinds, err := SourceKinds()
	return definitions.Rules{Sources: kinds, Forges: types, Platform: local.Fields(), Deployed: targetlocal.Linter{}}, err
}
