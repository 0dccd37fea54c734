package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tureen/impl/ingest"
	"tureen/impl/live"
	"tureen/impl/media"
	"tureen/impl/rtp"
	"tureen/impl/tokens"
)

// desk is an API whose answers are all held against its description.
type desk struct {
	*API
	t       *testing.T
	table   *tokens.Table
	on      []Stream // the air
	aborted []string
	seen    map[string]bool // paths and statuses that were answered
}

func open(t *testing.T, options ...func(*Config)) *desk {
	t.Helper()
	d := &desk{t: t, table: tokens.New(false), seen: map[string]bool{}}
	config := Config{
		Tokens: d.table, Log: slog.New(slog.DiscardHandler),
		Resolve: func(ctx context.Context, c rtp.Client) error {
			_, err := rtp.Policy{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}.Resolve(ctx, c)
			return err
		},
		Streams: func() []Stream { return slices.Clone(d.on) },
		Abort: func(_ context.Context, session string) error {
			if session != "live" {
				return live.ErrAbsent
			}
			d.aborted = append(d.aborted, session)
			return nil
		},
		Features: []string{"wait", "pacing"},
		Times:    map[string]time.Duration{"idle": 10 * time.Second, "grace": 1500 * time.Millisecond},
	}
	for _, option := range options {
		option(&config)
	}
	d.table = config.Tokens
	d.API = New(config)
	return d
}

// ask makes a call. The path and query are after /api/. Options change the request.
func (d *desk) ask(method, path string, options ...func(*http.Request)) *http.Response {
	d.t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:8000/api/"+path, nil)
	r.RemoteAddr = "127.0.0.1:5"
	for _, option := range options {
		option(r)
	}
	w := httptest.NewRecorder()
	d.Serve(w, r, strings.Split(strings.TrimPrefix(r.URL.Path, "/api/"), "/"))
	answer := w.Result()
	d.describedAs(method, r.URL.Path, answer)
	for name := range answer.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			d.t.Errorf("%s %s answers with %s", method, path, name)
		}
	}
	return answer
}

// describedAs holds an answer against the description of its operation.
func (d *desk) describedAs(method, path string, answer *http.Response) {
	d.t.Helper()
	var root object
	if err := json.Unmarshal(d.description, &root); err != nil {
		d.t.Fatal(err)
	}
	all := schemas{root}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	answer.Body = io.NopCloser(strings.NewReader(string(body)))
	schema := object{"$ref": "#/components/schemas/Problem"}
	contentType := "application/problem+json"
	if operations, ok := root["paths"].(object)[path].(object); ok {
		name := strings.ToLower(method)
		if answer.StatusCode == http.StatusMethodNotAllowed { // of each operation
			name = slices.Sorted(maps.Keys(operations))[0]
		}
		operation, ok := operations[cmp.Or(map[string]string{"head": "get"}[name], name)].(object)
		if !ok {
			d.t.Fatalf("%s %s isn't described, and answers %d", method, path, answer.StatusCode)
		}
		status := strconv.Itoa(answer.StatusCode)
		d.seen[path+" "+status] = true
		response, ok := operation["responses"].(object)[status].(object)
		if !ok {
			d.t.Fatalf("%s %s answers %s, which isn't described", method, path, status)
		}
		content := all.resolve(response)["content"].(object)
		contentType = slices.Sorted(maps.Keys(content))[0]
		schema = content[contentType].(object)["schema"].(object)
	} else if answer.StatusCode != http.StatusNotFound && answer.StatusCode != http.StatusForbidden {
		d.t.Errorf("%s %s, which isn't described, answers %d", method, path, answer.StatusCode)
	}
	if got := answer.Header.Get("Content-Type"); got != contentType {
		d.t.Errorf("%s %s: Content-Type %q, want %q", method, path, got, contentType)
	}
	if length := answer.Header.Get("Content-Length"); method != http.MethodHead && length != strconv.Itoa(len(body)) {
		d.t.Errorf("%s %s: Content-Length %s of %d bytes", method, path, length, len(body))
	}
	if method == http.MethodHead {
		if len(body) != 0 {
			d.t.Errorf("HEAD %s has a body: %s", path, body)
		}
		return
	}
	var document any
	if err := json.Unmarshal(body, &document); err != nil {
		d.t.Fatalf("%s %s answers no JSON: %v\n%s", method, path, err, body)
	}
	if why := all.walk(schema, document); why != "" {
		d.t.Errorf("%s %s answers what isn't described: %s", method, path, why)
	}
}

// expect makes a call and checks its status, and that a problem's detail says
// what it must.
func (d *desk) expect(method, path string, status int, says string, options ...func(*http.Request)) *http.Response {
	d.t.Helper()
	answer := d.ask(method, path, options...)
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	answer.Body = io.NopCloser(strings.NewReader(string(body)))
	if answer.StatusCode != status || !strings.Contains(string(body), says) {
		d.t.Errorf("%s %s: %d %s, want %d that says %q", method, path, answer.StatusCode, body, status, says)
	}
	return answer
}

// list is the tokens that an answer holds, or that are listed.
func list[T any](t *testing.T, answer *http.Response) (all []T) {
	t.Helper()
	if err := json.NewDecoder(answer.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

func from(addr string) func(*http.Request) {
	return func(r *http.Request) { r.RemoteAddr = addr }
}

func field(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

// shown is a token on one line.
func shown(t Token) string {
	s := t.SessionID + " " + t.Type
	if t.Host != nil && t.Port != nil {
		s += fmt.Sprintf(" %s %d", *t.Host, *t.Port)
	}
	return strings.TrimSpace(s + " " + strings.Join(t.InputTypes, "+"))
}

func allShown(all []Token) []string {
	lines := []string{}
	for _, t := range all {
		lines = append(lines, shown(t))
	}
	return lines
}

// TestTokenCalls: API-1 to API-3.
func TestTokenCalls(t *testing.T) {
	d := open(t)
	steps := []struct {
		method, call string
		status       int
		want         []string // in the answer
		listed       []string // afterwards
	}{
		{"GET", "list-tokens", 200, nil, nil},
		{"POST", "add-token?type=http&sessionid=b", 201, []string{"b http"}, []string{"b http"}},
		{
			"POST", "add-token?sessionid=a&udp-clients=127.0.0.1:5000,[::1]:5000&type=rtp-udp", 201,
			[]string{"a rtp-udp 127.0.0.1 5000", "a rtp-udp ::1 5000"},
			[]string{"a rtp-udp 127.0.0.1 5000", "a rtp-udp ::1 5000", "b http"},
		},
		{
			"POST", "add-token?type=rtp-udp,http&sessionid=b&udp-clients=%5B%3A%3Affff%3A127.0.0.1%5D%3A65532", 200,
			[]string{"b http", "b rtp-udp 127.0.0.1 65532"},
			[]string{"a rtp-udp 127.0.0.1 5000", "a rtp-udp ::1 5000", "b http", "b rtp-udp 127.0.0.1 65532"},
		},
		{
			"POST", "add-token?type=http%2Crtp-udp&sessionid=b&udp-clients=127.0.0.1:2,127.0.0.1:6", 200,
			[]string{"b http", "b rtp-udp 127.0.0.1 2", "b rtp-udp 127.0.0.1 6"},
			[]string{"a rtp-udp 127.0.0.1 5000", "a rtp-udp ::1 5000", "b http", "b rtp-udp 127.0.0.1 2", "b rtp-udp 127.0.0.1 6"},
		},
		{
			"DELETE", "revoke-token?sessionid=a", 200,
			[]string{"a rtp-udp 127.0.0.1 5000", "a rtp-udp ::1 5000"},
			[]string{"b http", "b rtp-udp 127.0.0.1 2", "b rtp-udp 127.0.0.1 6"},
		},
		{"POST", "add-token?type=http&sessionid=%62&input-types=video/webm,audio%2fogg", 200, []string{"b http video/webm+audio/ogg"}, []string{"b http video/webm+audio/ogg"}},
		{"DELETE", "revoke-token?sessionid=b", 200, []string{"b http video/webm+audio/ogg"}, nil},
		{"POST", "add-token?type=http&sessionid=" + strings.Repeat("~", 128), 201, []string{strings.Repeat("~", 128) + " http"}, []string{strings.Repeat("~", 128) + " http"}},
	}
	for _, step := range steps {
		answer := d.expect(step.method, step.call, step.status, "")
		if got := allShown(list[Token](t, answer)); !slices.Equal(got, step.want) {
			t.Errorf("%s %s answers %q, want %q", step.method, step.call, got, step.want)
		}
		if got := allShown(list[Token](t, d.ask("GET", "list-tokens"))); !slices.Equal(got, step.listed) {
			t.Errorf("after %s %s there are %q, want %q", step.method, step.call, got, step.listed)
		}
	}
	d.expect("DELETE", "revoke-token?sessionid=b", 404, "no tokens")
}

// TestBadParameters: each is refused and named, and nothing changes (API-6,
// TOK-5, TOK-6, TOK-7, TOK-9).
func TestBadParameters(t *testing.T) {
	d := open(t)
	d.expect("POST", "add-token?type=http&sessionid=kept", 201, "")
	const add = "add-token?type=http&sessionid=a"
	const send = "add-token?type=rtp-udp&sessionid=a"
	many := make([]string, rtp.MaxClients+1)
	for i := range many {
		many[i] = fmt.Sprintf("127.0.0.1:%d", 4*i+2)
	}
	key := strings.Repeat("k", 16)
	tests := []struct {
		method, call string
		status       int
		says         string
	}{
		{"POST", "add-token", 400, "type"},
		{"POST", "add-token?sessionid=a", 400, "parameter type is missing"},
		{"POST", "add-token?type=http", 400, "parameter sessionid is missing"},
		{"POST", "add-token?type=&sessionid=a", 400, "parameter type"},
		{"POST", "add-token?type=rtp&sessionid=a", 400, "parameter type"},
		{"POST", "add-token?type=HTTP&sessionid=a", 400, "parameter type"},
		{"POST", "add-token?type=http,http&sessionid=a", 400, "parameter type"},
		{"POST", "add-token?type=http,&sessionid=a", 400, "parameter type"},
		{"POST", "add-token?type=http,+rtp-udp&sessionid=a&udp-clients=127.0.0.1:2", 400, "parameter type"},
		{"POST", "add-token?type=http&sessionid=", 400, "parameter sessionid"},
		{"POST", "add-token?type=http&sessionid=..", 400, "parameter sessionid"},
		{"POST", "add-token?type=http&sessionid=a%2Fb", 400, "parameter sessionid"},
		{"POST", "add-token?type=http&sessionid=a+b", 400, "parameter sessionid"},
		{"POST", "add-token?type=http&sessionid=" + strings.Repeat("a", 129), 400, "parameter sessionid"},
		{"POST", "add-token?type=http&sessionid=%zz", 400, "parameter sessionid"},
		{"POST", add + "&sessionid=a", 400, "parameter sessionid is repeated"},
		{"POST", add + "&SessionID=a", 400, "unknown"},
		{"POST", add + "&colour=red", 400, `"colour" is unknown`},
		{"POST", add + "&=", 400, "unknown"},
		{"POST", add + ";ttl=5", 400, "parameter sessionid"},
		{"POST", add + "&udp-clients=127.0.0.1:5000", 400, "parameter udp-clients"},
		{"POST", send, 400, "parameter udp-clients is missing"},
		{"POST", send + "&udp-clients=", 400, "parameter udp-clients"},
		{"POST", send + "&udp-clients=127.0.0.1", 400, "parameter udp-clients"},
		{"POST", send + "&udp-clients=127.0.0.1:5001", 400, "even"},
		{"POST", send + "&udp-clients=127.0.0.1:0", 400, "even"},
		{"POST", send + "&udp-clients=127.0.0.1:65534", 400, "65532"},
		{"POST", send + "&udp-clients=::1:5000", 400, "brackets"},
		{"POST", send + "&udp-clients=127.0.0.1:5000,", 400, "parameter udp-clients"},
		{"POST", send + "&udp-clients=127.0.0.1:5000,127.0.0.1:5002", 400, "overlap"},
		{"POST", send + "&udp-clients=127.0.0.1:5000,[::ffff:127.0.0.1]:5000", 400, "overlap"},
		{"POST", send + "&udp-clients=" + strings.Join(many, ","), 400, "65 clients"},
		{"POST", send + "&udp-clients=127.0.0.1:5000,192.0.2.1:5000", 403, "192.0.2.1:5000"},
		{"POST", send + "&udp-clients=nowhere.invalid:5000", 400, "nowhere.invalid"},
		{"POST", add + "&input-types=", 400, "parameter input-types"},
		{"POST", add + "&input-types=video/avi", 400, "parameter input-types"},
		{"POST", add + "&input-types=video/webm,video/webm", 400, "parameter input-types"},
		{"POST", add + "&ttl=0", 400, "parameter ttl"},
		{"POST", add + "&ttl=31536001", 400, "parameter ttl"},
		{"POST", add + "&ttl=-1", 400, "parameter ttl"},
		{"POST", add + "&ttl=%2B1", 400, "parameter ttl"},
		{"POST", add + "&ttl=1.5", 400, "parameter ttl"},
		{"POST", add + "&ttl=99999999999999999999", 400, "parameter ttl"},
		{"POST", add + "&publish-key=" + key[1:], 400, "parameter publish-key"},
		{"POST", add + "&publish-key=" + strings.Repeat("k", 129), 400, "parameter publish-key"},
		{"POST", add + "&publish-key=" + key + "%20", 400, "parameter publish-key"},
		{"POST", add + "&publish-key=" + key + "=k", 400, "parameter publish-key"},
		{"DELETE", "revoke-token", 400, "parameter sessionid is missing"},
		{"DELETE", "revoke-token?sessionid=kept&type=http", 400, `"type" is unknown`},
		{"DELETE", "revoke-token?sessionid=kept&sessionid=kept", 400, "repeated"},
		{"DELETE", "revoke-token?sessionid=a/b", 400, "parameter sessionid"},
		{"DELETE", "abort-stream", 400, "parameter sessionid is missing"},
		{"DELETE", "abort-stream?sessionid=live&x", 400, "unknown"},
		{"DELETE", "abort-stream?sessionid=a%00", 400, "parameter sessionid"},
		{"GET", "list-tokens?sessionid=a", 400, "has none"},
		{"GET", "list-streams?x=1", 400, "has none"},
		{"GET", "openapi.json?x", 400, "has none"},
	}
	for _, test := range tests {
		d.expect(test.method, test.call, test.status, strings.ReplaceAll(test.says, `"`, `\"`))
	}
	if got := allShown(list[Token](t, d.ask("GET", "list-tokens"))); !slices.Equal(got, []string{"kept http"}) {
		t.Errorf("after refused calls there are %q", got)
	}
	if len(d.aborted) != 0 {
		t.Errorf("aborted are %q", d.aborted)
	}
}

// TestOptionalParameters: ttl, publish-key; a key never shows.
func TestOptionalParameters(t *testing.T) {
	d := open(t)
	const key = "AZaz09-._~+/AAAA=="
	for _, written := range []string{key, url.QueryEscape(key)} {
		answer := d.expect("POST", "add-token?type=http&sessionid=a&ttl=31536000&publish-key="+written, 201, "")
		body, err := io.ReadAll(answer.Body)
		if err != nil || strings.Contains(string(body), "AZaz") {
			t.Errorf("the answer shows the key: %s, %v", body, err)
		}
		if _, err := d.table.Publish("a", key); err != nil {
			t.Errorf("the key that was written as %s doesn't let in: %v", written, err)
		}
		d.expect("DELETE", "revoke-token?sessionid=a", 200, "")
	}
	before := time.Now()
	d.expect("POST", "add-token?type=http&sessionid=a&ttl=60", 201, "")
	all := list[Token](t, d.ask("GET", "list-tokens"))
	if len(all) != 1 || all[0].Expires == nil || all[0].Expires.Sub(before) < 59*time.Second || time.Until(*all[0].Expires) > time.Minute {
		t.Errorf("a token for a minute is listed as %+v", all)
	}
	d.expect("POST", "add-token?type=http&sessionid=a", 200, "")
	if all := list[Token](t, d.ask("GET", "list-tokens")); all[0].Expires != nil {
		t.Error("the time of the token before goes on")
	}
}

// TestPaths: API-7.
func TestPaths(t *testing.T) {
	d := open(t)
	for path, allow := range map[string]string{
		"add-token": "POST", "revoke-token": "DELETE", "abort-stream": "DELETE", "list-tokens": "GET, HEAD", "list-streams": "GET, HEAD",
		"openapi.json": "GET, HEAD",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
			if slices.Contains(strings.Split(allow, ", "), method) {
				continue
			}
			if got := d.expect(method, path, 405, "").Header.Get("Allow"); got != allow {
				t.Errorf("%s %s: Allow %q, want %q", method, path, got, allow)
			}
		}
	}
	for _, path := range []string{"", "list", "list-tokens/", "list-tokens/x", "/list-tokens", "List-Tokens", "v1/list-tokens"} {
		d.expect("GET", path, 404, "openapi.json")
		d.expect("DELETE", path, 404, "openapi.json")
	}
	for _, path := range []string{"list-tokens", "list-streams", "openapi.json"} {
		d.expect("HEAD", path, 200, "")
	}
}

// TestWhoMayCall: who may not is refused before anything else is said, on every
// path and method (TOK-1, API-10).
func TestWhoMayCall(t *testing.T) {
	closed := open(t, func(c *Config) { c.Gate.Servers = network(t, "192.0.2.1") })
	for _, call := range []string{"add-token", "add-token?type=http&sessionid=a", "revoke-token", "abort-stream?sessionid=live", "list-tokens", "list-streams", "openapi.json", "nothing", ""} {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
			if call == "openapi.json" && method != "GET" {
				continue // it states its own methods' answers alone
			}
			closed.expectForbidden(method, call)
		}
	}
	if len(closed.table.All()) != 0 || len(closed.aborted) != 0 {
		t.Error("who may not call changes something")
	}
	closed.expect("GET", "list-tokens", 200, "", from("192.0.2.1:5"))
	d := open(t)
	d.expect("GET", "list-tokens", 403, "--api-allow", from("192.0.2.1:5"))
	d.expect("GET", "list-tokens", 200, "", from("[::1]:5"))
	d.expect("GET", "list-tokens", 403, "page from elsewhere", field("Origin", "http://elsewhere.example"))
	d.expect("POST", "add-token?type=http&sessionid=a", 403, "page from elsewhere", field("Sec-Fetch-Site", "cross-site"))
	d.expect("GET", "list-tokens", 403, "--api-host", func(r *http.Request) { r.Host = "rebound.example" })
}

// expectForbidden expects 403 for a method that the description may not know.
func (d *desk) expectForbidden(method, call string) {
	d.t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:8000/api/"+call, nil)
	r.RemoteAddr = "127.0.0.1:5"
	w := httptest.NewRecorder()
	d.Serve(w, r, strings.Split(strings.TrimPrefix(r.URL.Path, "/api/"), "/"))
	if w.Code != http.StatusForbidden || w.Header().Get("Allow") != "" || !strings.Contains(w.Body.String(), "--token-server") {
		d.t.Errorf("%s %s from who may not call: %d %s", method, call, w.Code, w.Body)
	}
}

// TestListStreams: API-4.
func TestListStreams(t *testing.T) {
	d := open(t)
	if body, err := io.ReadAll(d.expect("GET", "list-streams", 200, "").Body); err != nil || strings.TrimSpace(string(body)) != "[]" {
		t.Errorf("nothing on the air is %s, %v", body, err)
	}
	d.on = []Stream{
		{SessionID: "b", State: "waiting", Started: time.Now().UTC(), Publisher: "127.0.0.1:5", Tracks: []Track{}},
		{
			SessionID: "a", State: "live", Started: time.Now().UTC(), Publisher: "[::1]:5", Viewers: 3, BytesIn: 4, BytesOut: 1 << 40,
			Tracks: []Track{
				{Track: ingest.Track{Kind: media.Video, InputCodec: "h264", OutputCodec: "vp8", Mode: "transcode", Reason: "so"}, Width: 640, Height: 360},
				{Track: ingest.Track{Kind: media.Audio, InputCodec: "vorbis", OutputCodec: "vorbis", Mode: "passthrough", Reason: "so"}, SampleRate: 44100, Channels: 2},
			},
		},
	}
	d.expect("POST", "add-token?type=rtp-udp&sessionid=a&udp-clients=127.0.0.1:5000,[::1]:6000", 201, "")
	all := list[Stream](t, d.expect("GET", "list-streams", 200, `"width":640`))
	if len(all) != 2 || all[0].SessionID != "a" || all[1].SessionID != "b" {
		t.Fatalf("listed are %+v", all)
	}
	if !slices.Equal(all[0].RTP, []string{"127.0.0.1:5000", "[::1]:6000"}) || all[1].RTP == nil || len(all[1].RTP) != 0 {
		t.Errorf("RTP goes to %q and %q", all[0].RTP, all[1].RTP)
	}
	if all[0].BytesOut != 1<<40 || all[0].Tracks[1].SampleRate != 44100 {
		t.Errorf("listed is %+v", all[0])
	}
}

func TestAbortStream(t *testing.T) {
	d := open(t)
	d.expect("DELETE", "abort-stream?sessionid=live", 200, `{"sessionid":"live"}`)
	d.expect("DELETE", "abort-stream?sessionid=dead", 404, "nothing is published")
	if !slices.Equal(d.aborted, []string{"live"}) {
		t.Errorf("aborted are %q", d.aborted)
	}
}

// TestDescriptionStates: API-9.
func TestDescriptionStates(t *testing.T) {
	var got struct {
		OpenAPI string `json:"openapi"`
		Info    struct {
			Features []string           `json:"x-features"`
			Times    map[string]float64 `json:"x-times"`
		} `json:"info"`
	}
	d := open(t)
	if err := json.NewDecoder(d.expect("GET", "openapi.json", 200, "").Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got.OpenAPI, "3.1.") || !slices.Equal(got.Info.Features, []string{"wait", "pacing"}) ||
		!maps.Equal(got.Info.Times, map[string]float64{"idle": 10, "grace": 1.5}) {
		t.Errorf("it states %+v", got)
	}
}

// TestConcurrentCalls: many clients add and revoke at once; each answer fits the
// list that remains.
func TestConcurrentCalls(t *testing.T) {
	d := open(t)
	var running sync.WaitGroup
	for c := range 8 {
		running.Go(func() {
			for i := range 50 {
				shared, own := "shared", fmt.Sprintf("own%d", c)
				d.serve("POST", fmt.Sprintf("add-token?type=http&sessionid=%s&ttl=%d", shared, i+1))
				if status := d.serve("POST", "add-token?type=http&sessionid="+own); status != 201 {
					t.Errorf("adding a token of one's own: %d", status)
				}
				if status := d.serve("DELETE", "revoke-token?sessionid="+shared); status != 200 && status != 404 {
					t.Errorf("revoking a shared one: %d", status)
				}
				if status := d.serve("DELETE", "revoke-token?sessionid="+own); status != 200 {
					t.Errorf("revoking one's own: %d", status)
				}
				d.serve("GET", "list-tokens")
			}
		})
	}
	running.Wait()
	if all := d.table.All(); len(all) != 0 {
		t.Errorf("left are %+v", all)
	}
}

// serve makes a call from any goroutine.
func (d *desk) serve(method, call string) (status int) {
	r := httptest.NewRequest(method, "http://127.0.0.1:8000/api/"+call, nil)
	r.RemoteAddr = "127.0.0.1:5"
	w := httptest.NewRecorder()
	d.Serve(w, r, []string{strings.TrimPrefix(r.URL.Path, "/api/")})
	return w.Code
}

func FuzzParameters(f *testing.F) {
	f.Add("type=http&sessionid=a&ttl=5&publish-key=abcdefghijklmnop")
	f.Add("type=rtp-udp,http&sessionid=%61&udp-clients=127.0.0.1:5000,[::1]:6000&input-types=video/webm")
	f.Fuzz(func(t *testing.T, query string) {
		v, err := parse(query, calls["add-token"].parameters)
		if err != nil {
			return
		}
		g, err := v.grant(time.Unix(0, 0))
		if err != nil {
			return
		}
		if !live.ValidID(g.Session) || g.None() || rtp.Overlap(g.Clients) != nil {
			t.Errorf("%q gives %+v", query, g)
		}
		if !g.Expires.IsZero() && (g.Expires.Unix() < 1 || g.Expires.Unix() > maxTTL) {
			t.Errorf("%q expires at %v", query, g.Expires)
		}
	})
}
