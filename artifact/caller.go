package artifact

import "context"

// Caller says on whose behalf something is moved, so that a [Mover] can find the right Secrets and refuse what
// the caller has no right to.
type Caller struct {
	// Namespace is where the names of Secrets are looked up.
	Namespace string
	// Owner is the run's uid, or an application's.
	Owner string
	// Node is the node's id within the owner.
	Node string
}

type callerKey struct{}

// WithCaller returns a context that carries c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller that [WithCaller] put into ctx; without one, a caller in namespace "default".
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	return c
}

// Opener opens files with the rights of somebody else, for what somebody else left there.
type Opener interface {
	// Open opens path from an open folder by openat2(2), whose flags and resolve these are, and gives the descriptor.
	Open(dir int, path string, flags, resolve uint64) (fd int, err error)
}

type openerKey struct{}

// WithOpener returns a context in which files are opened by o where they are saved as an artifact.
func WithOpener(ctx context.Context, o Opener) context.Context {
	return context.WithValue(ctx, openerKey{}, o)
}

// OpenerFrom returns the opener that [WithOpener] put into ctx; nil if there is none, so that this process opens files itself.
func OpenerFrom(ctx context.Context) Opener {
	o, _ := ctx.Value(openerKey{}).(Opener)
	return o
}
