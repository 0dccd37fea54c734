package trial

import (
	"time"

	"tureen/loadgen/proc"
	"tureen/loadgen/report"
)

// usage is what was used up to a moment.
type usage struct {
	at     time.Duration
	server proc.Usage
	self   proc.Usage
}

func (t *trial) usage() usage {
	var u usage
	var err error
	if u.self, err = proc.Self(); err != nil {
		t.report.Warn("no CPU and memory of the generator: %v", err)
	}
	if t.server != nil {
		u.server = t.server.Usage()
		t.peak = max(t.peak, u.server.Resident)
	}
	u.at = t.since()
	return u
}

// reportUsage reports what was used between two moments.
func (t *trial) reportUsage(from, to usage) {
	span := func(a, b proc.Usage) *report.Process {
		p := report.Span(to.at-from.at, b.User-a.User, b.System-a.System, t.cfg.Viewers)
		p.Processes = b.Processes
		return &p
	}
	t.report.Generator = span(from.self, to.self)
	t.report.Generator.Before, t.report.Generator.Peak = t.ownBefore, to.self.Resident
	t.report.Generator.Share(t.cfg.Viewers)
	if t.server == nil {
		return
	}
	if to.server.Processes == 0 {
		t.report.Warn("the server's processes have ended")
	}
	t.report.Server = span(from.server, to.server)
	t.report.Server.PIDs = t.server.Processes()
	t.report.Server.Before, t.report.Server.Peak = t.before, t.peak
	t.report.Server.Share(t.cfg.Viewers)
}

// sampleMemory notes the server's memory, if it is the most so far.
func (t *trial) sampleMemory() {
	if t.server != nil {
		t.peak = max(t.peak, t.server.Usage().Resident)
	}
}
