package sqlite

// WithInline sets the size in bytes up to which a body lives in its entry's row; at most 64 KiB.
func WithInline(o Options, n int) Options {
	o.inline = n
	return o
}
