package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// sections are the headings of the help, each with its commands.
var sections = []struct{ id, title, commands string }{
	{"machine", "On this machine, without a server:", "run lint render"},
	{"server", "The server:", "serve login user token down apply get delete version"},
	{"runs", "Runs:", "submit list watch logs retry resubmit stop terminate suspend resume cron"},
	{"events", "Events and merge requests:", "events why replay approve mr"},
	{"apps", "Applications:", "apps app"},
	{"record", "The record:", "trail ledger backup restore"},
}

// arrange puts the commands under the headings of the help.
func arrange(root *cobra.Command) {
	for _, s := range sections {
		root.AddGroup(&cobra.Group{ID: s.id, Title: s.title})
		for _, c := range root.Commands() {
			if slices.Contains(strings.Fields(s.commands), c.Name()) {
				c.GroupID = s.id
			}
		}
	}
}

// strict makes a wrong command line a usage error that says what would be right, for a command and all beneath it.
func strict(c *cobra.Command) {
	for _, sub := range c.Commands() {
		strict(sub)
	}
	if c.HasSubCommands() {
		c.Args, c.DisableFlagsInUseLine = knownCommand, true
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		return
	}
	c.Args = usageArgs(c.Args)
	output := c.Flags().Lookup("output")
	if output == nil {
		return
	}
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := knownOutput(output.Value.String(), output.Usage); err != nil {
			return err
		}
		return run(c, args)
	}
}

func knownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	next := "see " + c.CommandPath() + " --help"
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		next = "did you mean " + strings.Join(near, " or ") + "? " + next
	} else if c.HasParent() {
		next = "use " + strings.Join(names, ", ")
	}
	return usage(fmt.Errorf("there is no command %q (%s)", c.CommandPath()+" "+args[0], next))
}

// knownOutput checks a format against those that the flag's help names.
func knownOutput(format, help string) error {
	var known []string
	for _, f := range []string{"json", "yaml"} {
		if strings.Contains(help, f) {
			known = append(known, f)
		}
	}
	if format != "" && !slices.Contains(known, format) {
		return usage(fmt.Errorf("--output %s is not known: use %s, or leave it out", format, strings.Join(known, " or ")))
	}
	return nil
}

// usageArgs makes wrong arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	if check == nil {
		return nil
	}
	return func(c *cobra.Command, args []string) error {
		if check(c, args) == nil {
			return nil
		}
		// Check fails for one of two reasons; too many arguments are the one where fewer would do.
		what := "an argument is missing"
		for n := len(args) - 1; n >= 0; n-- {
			if check(c, args[:n]) == nil {
				what = fmt.Sprintf("%q is too much", args[n])
				break
			}
		}
		return usage(fmt.Errorf("%s: the command is %s (see %s --help)", what, c.UseLine(), c.CommandPath()))
	}
}

// parsing is what strconv adds to an error of a flag, which names the value already.
var parsing = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `)

func flagError(c *cobra.Command, err error) error {
	return usage(errors.New(parsing.ReplaceAllString(err.Error(), "") + " (see " + c.CommandPath() + " --help)"))
}

func newVersion(std IO) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		_, err := fmt.Fprintln(std.Out, "tiphys version "+Version)
		return err
	}}
}
