package cli

import (
	"github.com/spf13/cobra"

	"github.com/tiphys/tiphys/deploy/render"
	"github.com/tiphys/tiphys/egress"
	"github.com/tiphys/tiphys/pipeline"
	"github.com/tiphys/tiphys/script/confined"
)

// commands are all commands, in the order of the help.
func commands(std IO) []*cobra.Command {
	return []*cobra.Command{
		newRun(std),
		newServe(std),
		newLogin(std),
		newUser(std),
		newToken(std),
		newDown(std),
		newDoctor(std),
		newBackup(std),
		newRestore(std),
		newLint(std),
		newRenderProgram(std),
		newSubmit(std),
		newList(std),
		newGet(std),
		newWatch(std),
		newLogs(std),
		newRetry(std),
		newResubmit(std),
		newVerb(std, "stop", "End a run: no new steps, exit handlers still run", selector),
		newVerb(std, "terminate", "End a run at once, without exit handlers", nil),
		newVerb(std, "suspend", "Start no new steps of a run until it is resumed", nil),
		newVerb(std, "resume", "Let a suspended run, or its suspended nodes, go on", selector),
		newApply(std),
		newDelete(std),
		newCron(std),
		newQuarantine(std),
		newEvents(std),
		newWhy(std),
		newReplay(std),
		newApprove(std),
		newRepos(std),
		newMR(std),
		newApps(std),
		newApp(std),
		newTrail(std),
		newLedger(std),
		newVersion(std),
		newRender(std),
		newEvaluate(std),
		newScript(std),
		newKeeper(),
		newRootless(),
		newGitCredential(std),
		newEgressSSH(),
		newEgressConnect(std),
	}
}

// newEgressSSH stands in for ssh where git fetches what a manifest names; the server has git start it.
func newEgressSSH() *cobra.Command {
	return &cobra.Command{
		Use: egress.SSHCommand, Hidden: true, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error { return egress.SSH(c.Context(), args) },
	}
}

// newEgressConnect carries the connection of such an ssh through the server's checked way out; ssh starts it.
func newEgressConnect(std IO) *cobra.Command {
	return &cobra.Command{
		Use: egress.ConnectCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return egress.Connect(c.Context(), std.Getenv, std.In, std.Out)
		},
	}
}

// newRender is the confined child in which manifests are rendered; the server starts it.
func newRender(std IO) *cobra.Command {
	return &cobra.Command{
		Use: "__render", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return render.Main(c.Context(), std.In, std.Out) },
	}
}

// newScript is the confined child in which the programs of sensors run; the server starts it.
func newScript(std IO) *cobra.Command {
	return &cobra.Command{
		Use: "__script", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return confined.Serve(std.In, std.Out) },
	}
}

// newEvaluate is the confined child in which programs of a repository are evaluated; the server starts it.
func newEvaluate(std IO) *cobra.Command {
	return &cobra.Command{
		Use: "__evaluate", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return pipeline.Main(c.Context(), std.In, std.Out) },
	}
}
