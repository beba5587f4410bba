package local_test

const serverArg = "be-a-server"

func serverMain(args []string) int { return 0 }
