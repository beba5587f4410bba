package fork

const (
	sysSetns   = 268
	sysSeccomp = 277
)
