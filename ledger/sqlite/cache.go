package sqlite

// Bounds of the cache: with typical rows of 1 KB it takes about 4 MB.
const (
	maxCachedRows = 4096
	maxCachedBody = 16 << 10
)

// cache keeps the rows that were last read or written by the writer, absent ones too. There is one writer, so
// it is never stale. It holds only what is committed.
type cache struct{ rows map[rowKey]change }

func newCache() *cache { return &cache{rows: map[rowKey]change{}} }

func (c *cache) get(k rowKey) (change, bool) {
	v, ok := c.rows[k]
	return v, ok
}

func (c *cache) put(k rowKey, v change) {
	if len(v.row.Body) > maxCachedBody {
		delete(c.rows, k)
		return
	}
	c.rows[k] = v
	if len(c.rows) > maxCachedRows {
		c.shrink()
	}
}

// shrink forgets an eighth, whichever the map yields: rows in use come back at once.
func (c *cache) shrink() {
	for k := range c.rows {
		delete(c.rows, k)
		if len(c.rows) <= maxCachedRows*7/8 {
			return
		}
	}
}

func (c *cache) update(rows map[rowKey]change) {
	for k, v := range rows {
		c.put(k, v)
	}
}

func (c *cache) clear() { clear(c.rows) }
