package api

import (
	"github.com/tiphys/tiphys/access"
	"github.com/tiphys/tiphys/server/gate"
)

// asks says for each route what the policy is asked before its handler runs. A route without a line is refused to everybody.
func asks() map[string]gate.Ask {
	one := func(verb access.Verb, kind string) gate.Ask { return gate.Ask{Verb: verb, Kind: kind} }
	each := func(verb access.Verb, kind string) gate.Ask { return gate.Ask{Verb: verb, Kind: kind, Each: true} }
	return map[string]gate.Ask{
		"GET /api/v1/info":     one(access.Get, access.Server),
		"GET /api/v1/version":  one(access.Get, access.Server),
		"GET /api/v1/userinfo": one(access.Get, access.Server),

		"GET /api/v1/runs":                                                each(access.Get, access.Run),
		"GET /api/v1/runs/{namespace}/{name}":                             one(access.Get, access.Run),
		"GET /api/v1/runs/{namespace}/{name}/manifest":                    one(access.Get, access.Run),
		"GET /api/v1/runs/{namespace}/{name}/log/{node}":                  one(access.Get, access.Log),
		"GET /api/v1/runs/{namespace}/{name}/artifacts/{node}/{artifact}": one(access.Get, access.Artifact),
		"GET /api/v1/runs/{namespace}/{name}/nodes":                       one(access.Get, access.Run),
		"GET /api/v1/runs/{namespace}/{name}/nodes/{node}":                one(access.Get, access.Run),
		"GET /api/v1/runs/{namespace}/{name}/attempts":                    one(access.Get, access.Run),
		"GET /api/v1/sources":                                             each(access.Get, "EventSource"),
		"GET /api/v1/workflows/{namespace}":                               each(access.Get, access.Run),
		"POST /api/v1/workflows/{namespace}":                              one(access.Create, access.Run),
		"POST /api/v1/workflows/{namespace}/submit":                       one(access.Create, access.Run),
		"POST /api/v1/workflows/{namespace}/lint":                         each(access.Get, access.Run),
		"GET /api/v1/workflows/{namespace}/{name}":                        one(access.Get, access.Run),
		"GET /api/v1/workflows/{namespace}/{name}/log":                    one(access.Get, access.Log),
		"PUT /api/v1/workflows/{namespace}/{name}/{verb}":                 one(access.Update, access.Run),
		"DELETE /api/v1/workflows/{namespace}/{name}":                     one(access.Delete, access.Run),
		"GET /api/v1/workflow-events/{namespace}":                         each(access.Get, access.Run),
		"GET /api/v1/definitions":                                         each(access.Get, "*"),
		"GET /api/v1/definitions/{kind}/{namespace}/{name}":               one(access.Get, "{kind}"),
		"POST /api/v1/definitions":                                        each(access.Create, "*"),
		"DELETE /api/v1/definitions/{kind}/{namespace}/{name}":            one(access.Delete, "{kind}"),
		"GET /api/v1/cron":                                                each(access.Get, "CronWorkflow"),
		"GET /api/v1/entries":                                             each(access.Get, access.Ledger),
		"POST /api/v1/entries/{seq}/erase":                                one(access.Update, access.Server),
		"GET /api/v1/trail":                                               each(access.Get, access.Ledger),
		"GET /api/v1/ledger/head":                                         one(access.Get, access.Ledger),
		"POST /api/v1/ledger/verify":                                      one(access.Get, access.Ledger),
		"GET /api/v1/ledger/verify":                                       one(access.Get, access.Ledger),
		"GET /api/v1/quarantine":                                          one(access.Get, access.Server),
		"POST /api/v1/quarantine/{verb}":                                  one(access.Update, access.Server),
		"GET /api/v1/restore":                                             one(access.Update, access.Server),
		"POST /api/v1/restore":                                            one(access.Update, access.Server),
		"GET /api/v1/stream":                                              each(access.Get, "*"),
		"GET /api/v1/events":                                              each(access.Get, access.Event),
		"GET /api/v1/events/{id}":                                         each(access.Get, access.Event),
		"POST /api/v1/events/{id}/replay":                                 each(access.Create, access.Event),
		"POST /api/v1/events/{id}/approve":                                each(access.Update, access.Event),
		"GET /api/v1/approvals":                                           each(access.Get, access.Event),
		"GET /api/v1/firings":                                             each(access.Get, access.Firing),
		"POST /api/v1/firings/{key}/redrive":                              each(access.Update, access.Firing),
		"GET /api/v1/sensors":                                             each(access.Get, "Sensor"),
		"GET /api/v1/apps":                                                each(access.Get, "Application"),
		"GET /api/v1/applicationsets":                                     each(access.Get, "ApplicationSet"),
		"GET /api/v1/apps/{namespace}/{name}":                             one(access.Get, "Application"),
		"POST /api/v1/apps/{namespace}/{name}/{verb}":                     one(access.Sync, "Application"),
		"GET /api/v1/apps/{namespace}/{name}/logs/{pod}":                  one(access.Get, access.ApplicationLog),
		"GET /api/v1/releases":                                            each(access.Get, access.Release),
		"GET /api/v1/forges":                                              each(access.Get, "Forge"),
		"GET /api/v1/posts":                                               each(access.Get, "Forge"),
		"GET /api/v1/repos":                                               each(access.Get, access.Repository),
		"POST /api/v1/repos":                                              each(access.Create, access.Repository),
		"PATCH /api/v1/repos/{repo}":                                      one(access.Update, access.Repository),
		"GET /api/v1/mrs":                                                 each(access.Get, access.MergeRequest),
		"GET /api/v1/mrs/{repo}/{number}":                                 one(access.Get, access.MergeRequest),
		"POST /api/v1/mrs/{repo}":                                         one(access.Create, access.MergeRequest),
		"POST /api/v1/mrs/{repo}/{number}/{verb}":                         one(access.Update, access.MergeRequest),
		"GET /api/v1/users":                                               one(access.Get, access.User),
		"POST /api/v1/users":                                              one(access.Create, access.User),
		"PUT /api/v1/users/{name}":                                        one(access.Update, access.User),
		"DELETE /api/v1/users/{name}":                                     one(access.Delete, access.User),
		"POST /api/v1/login-codes":                                        each(access.Create, access.Self),
		"GET /api/v1/tokens":                                              each(access.Get, access.Self),
		"POST /api/v1/tokens":                                             each(access.Create, access.Self),
		"DELETE /api/v1/tokens/{id}":                                      each(access.Delete, access.Self),
	}
}

// asking puts what is asked to the routes.
func asking(routes []gate.Route) []gate.Route {
	table := asks()
	for i := range routes {
		routes[i].Ask = table[routes[i].Pattern]
	}
	return routes
}
