package fork

const (
	sysSetns   = 308
	sysSeccomp = 317
)
