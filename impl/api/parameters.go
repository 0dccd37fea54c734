package api

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tureen/impl/live"
	"tureen/impl/rtp"
	"tureen/impl/tokens"
)

// parameter is one that a call has in its query.
type parameter struct {
	name     string
	required bool
}

// values are a call's parameters by name, each stated once.
type values map[string]string

// parse reads a query. The error names the parameter (API-6). Percent-encoding
// alone is decoded: a + is a +, which publish keys may hold, and no parameter
// has spaces.
func parse(query string, known []parameter) (values, error) {
	got := values{}
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		escaped, value, _ := strings.Cut(pair, "=")
		name, err := url.PathUnescape(escaped)
		if err != nil || !slices.ContainsFunc(known, func(p parameter) bool { return p.name == name }) {
			return nil, fmt.Errorf("the parameter %.40q is unknown; %s", escaped, knownAre(known))
		}
		if _, twice := got[name]; twice {
			return nil, fmt.Errorf("the parameter %s is repeated; state it once", name)
		}
		if got[name], err = url.PathUnescape(value); err != nil {
			return nil, fmt.Errorf("the parameter %s is malformed: a %% is followed by two hexadecimal digits", name)
		}
	}
	for _, p := range known {
		if _, ok := got[p.name]; p.required && !ok {
			return nil, fmt.Errorf("the parameter %s is missing", p.name)
		}
	}
	return got, nil
}

func knownAre(known []parameter) string {
	if len(known) == 0 {
		return "this call has none"
	}
	names := make([]string, len(known))
	for i, p := range known {
		names[i] = p.name
	}
	return "this call has " + strings.Join(names, ", ")
}

// session is the parameter sessionid.
func (v values) session() (string, error) {
	id := v["sessionid"]
	if !live.ValidID(id) {
		return "", fmt.Errorf("the parameter sessionid is malformed: a session id has %s", live.IDForm)
	}
	return id, nil
}

// maxTTL is a year, in seconds (TOK-7).
const maxTTL = 31_536_000

// Token types.
const (
	typeHTTP = "http"
	typeRTP  = "rtp-udp"
)

// grant is what add-token's parameters ask for. Whether RTP may be sent there
// isn't judged yet.
func (v values) grant(now time.Time) (g tokens.Grant, err error) {
	if g.Session, err = v.session(); err != nil {
		return g, err
	}
	sent, err := v.types(&g)
	if err != nil {
		return g, err
	}
	text, stated := v["udp-clients"]
	switch {
	case sent && !stated:
		return g, fmt.Errorf("the parameter udp-clients is missing: type %s needs it", typeRTP)
	case stated && !sent:
		return g, fmt.Errorf("the parameter udp-clients needs type %s", typeRTP)
	}
	if sent {
		if g.Clients, err = clients(text); err != nil {
			return g, fmt.Errorf("the parameter udp-clients is malformed: %w", err)
		}
	}
	return g, v.restrict(&g, now)
}

// types reads the parameter type; sent reports whether rtp-udp is among them.
func (v values) types(g *tokens.Grant) (sent bool, err error) {
	for _, t := range strings.Split(v["type"], ",") {
		switch {
		case t == typeHTTP && !g.HTTP:
			g.HTTP = true
		case t == typeRTP && !sent:
			sent = true
		default:
			return false, fmt.Errorf("the parameter type is malformed: it is %s, %s, or both with a comma between", typeHTTP, typeRTP)
		}
	}
	return sent, nil
}

// clients reads the parameter udp-clients.
func clients(text string) ([]rtp.Client, error) {
	var all []rtp.Client
	for _, s := range strings.Split(text, ",") {
		c, err := rtp.ParseClient(s)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) > rtp.MaxClients {
		return nil, fmt.Errorf("%d clients are more than the %d that a session can have", len(all), rtp.MaxClients)
	}
	return all, rtp.Overlap(all)
}

// restrict reads the parameters that bound what a publisher may do.
func (v values) restrict(g *tokens.Grant, now time.Time) error {
	if text, stated := v["input-types"]; stated {
		for _, t := range strings.Split(text, ",") {
			if !slices.Contains(tokens.InputTypes, t) || slices.Contains(g.InputTypes, t) {
				return fmt.Errorf("the parameter input-types is malformed: it has each once, with commas between, of %s",
					strings.Join(tokens.InputTypes, ", "))
			}
			g.InputTypes = append(g.InputTypes, t)
		}
	}
	if text, stated := v["ttl"]; stated {
		seconds, err := strconv.ParseUint(text, 10, 32)
		if err != nil || seconds < 1 || seconds > maxTTL {
			return fmt.Errorf("the parameter ttl is malformed: it is a number of seconds from 1 to %d", maxTTL)
		}
		g.Expires = now.Add(time.Duration(seconds) * time.Second).UTC().Truncate(time.Millisecond)
	}
	if k, stated := v["publish-key"]; stated {
		if !tokens.ValidKey(k) {
			return fmt.Errorf("the parameter publish-key is malformed: it has %s", tokens.KeyForm)
		}
		g.Key = tokens.NewKey(k)
	}
	return nil
}
