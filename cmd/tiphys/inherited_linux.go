package main

import "github.com/tiphys/tiphys/executor/fork"

// keepInherited keeps what whoever started this program left open from everything that it starts: git, renderers, and above all steps.
func keepInherited() { fork.KeepInherited() }
