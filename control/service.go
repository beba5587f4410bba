// Package control is what loops: the rooms below it drive runs, sensors, schedules, applications, definitions and sweeps.
// Each is a [Service], and a [Group] starts, watches and stops them.
package control

import (
	"context"
	"fmt"
	"time"
)

// Service is one thing that loops for as long as the server lives.
type Service interface {
	// Name is one word for people: "runs", "sensors".
	Name() string
	// Start does what others rely on: it returns when the service can be asked. It must not loop.
	Start(ctx context.Context) error
	// Run loops until ctx ends, and returns nil then. It gives up with an error only if it cannot go on; it is then
	// started again after a wait, by Start and Run.
	Run(ctx context.Context) error
	// Health says how it is, from memory and at once. The group adds whether it runs at all, so that a service with
	// nothing to say returns the zero Health.
	Health() Health
}

// State is how a service is.
type State string

// The states. The zero value is Well, if the service runs.
const (
	Starting State = "starting"
	Running  State = "running"
	// Waiting says that it does its work and something of it has to wait, for room or for somebody else.
	Waiting State = "waiting"
	// Failing says that its work does not succeed; it goes on trying.
	Failing State = "failing"
	Stopped State = "stopped"
)

// Health is how a service is, and why.
type Health struct {
	State State
	// Reason is for people; empty where there is nothing to say.
	Reason string
	// Since is when it came to be so; zero if that is not known.
	Since time.Time
}

// Well reports whether the service does its work.
func (h Health) Well() bool { return h.State == "" || h.State == Running || h.State == Waiting }

// Status is the health of a named service.
type Status struct {
	Name   string
	Health Health
}

// String is one line for people: "sensors: failing since 2026-01-02T03:04:05Z: the reason".
func (s Status) String() string {
	text := fmt.Sprintf("%s: %s", s.Name, s.Health.State)
	if !s.Health.Since.IsZero() {
		text += " since " + s.Health.Since.UTC().Format(time.RFC3339)
	}
	if s.Health.Reason != "" {
		text += ": " + s.Health.Reason
	}
	return text
}

// Loop makes a Service of a function that loops until its context ends and has nothing to do at the start.
func Loop(name string, run func(ctx context.Context) error) Service {
	return loop{name: name, run: run}
}

type loop struct {
	name string
	run  func(context.Context) error
}

func (l loop) Name() string                  { return l.name }
func (l loop) Start(context.Context) error   { return nil }
func (l loop) Run(ctx context.Context) error { return l.run(ctx) }
func (l loop) Health() Health                { return Health{} }
