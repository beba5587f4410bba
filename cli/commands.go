package cli

import "github.com/spf13/cobra"

// commands are all commands, in the order of the help.
func commands(std IO) []*cobra.Command {
	return []*cobra.Command{
		newRun(std),
	}
}
