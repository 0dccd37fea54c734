package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tureen/impl/api"
)

// tokenCommands are the calls about tokens.
type tokenCommands struct {
	Add    tokenAdd    `cmd:"" help:"Give a session tokens, in place of those it had."`
	Revoke tokenRevoke `cmd:"" help:"Take a session's tokens; with --token-server its publisher and viewers go."`
	List   tokenList   `cmd:"" help:"List all sessions' tokens."`
}

type tokenAdd struct {
	remote
	Session    string        `arg:"" help:"The session's id."`
	Type       []string      `help:"http lets the session be watched, rtp-udp has it sent to --udp-clients (default: http, and rtp-udp when there are --udp-clients)." enum:"http,rtp-udp" placeholder:"TYPE"`
	UDPClients []string      `help:"Where RTP goes: host:port with an even port; the three ports after it are used as well." placeholder:"HOST:PORT"`
	InputTypes []string      `help:"What may be published, like video/webm; anything without it." placeholder:"TYPE"`
	TTL        time.Duration `name:"ttl" help:"How long the tokens are valid, like 1h; until they are revoked without it." placeholder:"TIME"`
	PublishKey string        `help:"The key that publishers must bear, of 16 to 128 characters. In the environment, as TUREEN_PUBLISH_KEY, nobody else on this machine sees it." placeholder:"KEY"`
}

// Help is shown by --help.
func (*tokenAdd) Help() string {
	return `Examples:

  tureen token add demo
  tureen token add demo --ttl 1h --input-types video/webm
  tureen token add demo --udp-clients 192.168.1.7:5000,[fd00::7]:5000
  TUREEN_PUBLISH_KEY=$(openssl rand -hex 16) tureen token add demo`
}

// Validate refuses what can't be told to the API.
func (a *tokenAdd) Validate() error {
	if a.TTL < 0 || a.TTL%time.Second != 0 {
		return fmt.Errorf("--ttl must be whole seconds, and not negative")
	}
	return nil
}

// Run adds the tokens and prints them.
func (a *tokenAdd) Run(out io.Writer) error {
	body, err := a.call(context.Background(), http.MethodPost, "add-token", a.query())
	if err != nil {
		return err
	}
	return a.printTokens(out, body)
}

// query is the call's parameters.
func (a *tokenAdd) query() url.Values {
	types := a.Type
	if len(types) == 0 {
		types = []string{"http"}
		if len(a.UDPClients) > 0 {
			types = append(types, "rtp-udp")
		}
	}
	q := url.Values{"sessionid": {a.Session}, "type": {strings.Join(types, ",")}}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("udp-clients", strings.Join(a.UDPClients, ","))
	set("input-types", strings.Join(a.InputTypes, ","))
	set("publish-key", a.PublishKey)
	if a.TTL > 0 {
		q.Set("ttl", strconv.Itoa(int(a.TTL.Seconds())))
	}
	return q
}

type tokenRevoke struct {
	remote
	Session string `arg:"" help:"The session's id."`
}

// Run revokes the tokens and prints what they were.
func (r *tokenRevoke) Run(out io.Writer) error {
	body, err := r.call(context.Background(), http.MethodDelete, "revoke-token", url.Values{"sessionid": {r.Session}})
	if err != nil {
		return err
	}
	return r.printTokens(out, body)
}

type tokenList struct{ remote }

// Run prints all tokens.
func (l *tokenList) Run(out io.Writer) error {
	body, err := l.call(context.Background(), http.MethodGet, "list-tokens", nil)
	if err != nil {
		return err
	}
	return l.printTokens(out, body)
}

// printTokens prints the API's list of tokens.
func (r *remote) printTokens(out io.Writer, body []byte) error {
	if r.JSON {
		return raw(out, body)
	}
	tokens, err := document[[]api.Token](body)
	if err != nil {
		return err
	}
	rows := [][]string{{"SESSION", "TYPE", "CLIENT", "INPUT TYPES", "EXPIRES"}}
	for _, t := range tokens {
		client, expires := "", "never"
		if t.Host != nil && t.Port != nil {
			client = hostPort(*t.Host, *t.Port)
		}
		if t.Expires != nil {
			expires = "in " + time.Until(*t.Expires).Round(time.Second).String()
		}
		rows = append(rows, []string{t.SessionID, t.Type, client, strings.Join(t.InputTypes, ","), expires})
	}
	return table(out, rows)
}
