package measure

import (
	"sync"

	"tureen/loadgen/view"
)

// Collector takes a pool's events to the groups whose viewers they are of.
type Collector struct {
	mu     sync.Mutex
	groups []*Group
}

// Add adds a group; it must come before its viewers join.
func (c *Collector) Add(g *Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups = append(c.groups, g)
}

// Run handles events until the pool has stopped.
func (c *Collector) Run(pool *view.Pool) {
	for batch := range pool.Events() {
		c.handle(batch)
		pool.Recycle(batch)
	}
}

func (c *Collector) handle(batch []view.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range batch {
		for _, g := range c.groups {
			if g.owns(batch[i].Viewer) {
				g.handle(&batch[i])
				break
			}
		}
	}
}

// Do calls f while no event is handled, so that it may use groups.
func (c *Collector) Do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// Settled tells whether the group's viewers that are still there have received all that counts or what is due after it.
func (c *Collector) Settled(g *Group) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return g.settled()
}
