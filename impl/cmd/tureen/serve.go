package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tureen/impl/access"
	"tureen/impl/problem"
	"tureen/impl/rtp"
	"tureen/impl/server"
	"tureen/impl/tokens"
	"tureen/impl/transcode"
	"tureen/impl/transcoder"
)

// serve runs the proxy.
type serve struct {
	Listen  string        `default:":8000" help:"Address and port to serve on (${default})." placeholder:"ADDR:PORT"`
	TLSCert string        `help:"Certificate chain in PEM; with it the port speaks TLS and HTTP/2." placeholder:"FILE" type:"existingfile" and:"tls"`
	TLSKey  string        `help:"The certificate's key in PEM." placeholder:"FILE" type:"existingfile" and:"tls"`
	Idle    time.Duration `default:"10s" help:"End a publisher that sends nothing for this long."`
	Grace   time.Duration `default:"10s" help:"Keep viewers for this long when their publisher breaks off."`
	Budget  time.Duration `default:"3s" help:"How far a viewer may fall behind before it is moved on to a later key frame."`
	Drain   time.Duration `default:"5s" help:"How long the end may take after SIGTERM."`

	MaxPublishers           int `default:"0" help:"Refuse publishers past so many with 503; 0 is as many as open files allow."`
	MaxViewers              int `default:"0" help:"Refuse viewers past so many with 503; 0 is as many as open files allow."`
	MaxPublishersPerAddress int `default:"0" help:"Likewise of publishers from one address, or IPv6 network of 64 bits; 0 is no limit."`
	MaxViewersPerAddress    int `default:"0" help:"Likewise of viewers."`

	TranscoderSpares int `default:"1" help:"Transcoders kept started (${default}); so many streams can begin at once without a wait."`
	MaxTranscodes    int `default:"0" help:"Refuse streams that need transcoding past so many with 503; 0 is as many as the processors are measured to carry."`
	MaxVideoBitrate  int `default:"8000" help:"Most that transcoded pictures may take, in kbit/s (${default}); their size and rate decide below that." placeholder:"KBIT"`
	MaxAudioBitrate  int `default:"128" help:"Likewise transcoded sound (${default})." placeholder:"KBIT"`

	TokenServer  []access.Network `help:"Let this address or network, and nobody else, call the API; sessions without a token are closed then. Without it streaming is open, and this machine may call. May be repeated." placeholder:"ADDR/MASK"`
	TokenFile    string           `help:"Keep tokens in this file over restarts." placeholder:"FILE" type:"path"`
	APIAllow     []access.Network `name:"api-allow" help:"Without --token-server, let this address or network call the API, too. May be repeated." placeholder:"ADDR/MASK"`
	APIHost      []string         `name:"api-host" help:"Serve the API under this name, too, besides addresses and localhost. May be repeated." placeholder:"NAME"`
	TrustedProxy []access.Network `help:"Believe X-Forwarded-For from this address or network. May be repeated." placeholder:"ADDR/MASK"`

	RTPAllow      []access.Network `name:"rtp-allow" help:"Send RTP to this address or network, and to no other but those named so, too. Without it: to private, loopback and link-local addresses. May be repeated." placeholder:"ADDR/MASK"`
	MaxRTPClients int              `name:"max-rtp-clients" default:"0" help:"Send RTP to so many clients at once; 0 is as many as open files allow."`

	Log string `default:"info" enum:"debug,info,warn,error" help:"Least severe log lines to write: ${enum}."`
}

// Validate refuses times that can't work.
func (c *serve) Validate() error {
	for name, d := range map[string]time.Duration{"idle": c.Idle, "budget": c.Budget, "drain": c.Drain} {
		if d <= 0 {
			return fmt.Errorf("--%s must be more than 0", name)
		}
	}
	if c.Grace < 0 {
		return errors.New("--grace must not be negative")
	}
	for _, name := range c.APIHost {
		if strings.ContainsAny(name, ":/") || name == "" {
			return fmt.Errorf("--api-host is a name alone, without scheme and port; it is %q", name)
		}
	}
	for name, n := range map[string]int{
		"max-publishers": c.MaxPublishers, "max-publishers-per-address": c.MaxPublishersPerAddress,
		"max-viewers": c.MaxViewers, "max-viewers-per-address": c.MaxViewersPerAddress,
		"max-transcodes": c.MaxTranscodes, "max-video-bitrate": c.MaxVideoBitrate, "max-audio-bitrate": c.MaxAudioBitrate,
		"max-rtp-clients": c.MaxRTPClients,
	} {
		if n < 0 {
			return fmt.Errorf("--%s must not be negative; 0 sets no limit", name)
		}
	}
	if c.TranscoderSpares < 0 || c.TranscoderSpares > maxSpares {
		return fmt.Errorf("--transcoder-spares must be from 0 to %d", maxSpares)
	}
	return nil
}

// Run serves until SIGINT or SIGTERM.
func (c *serve) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.level()}))
	files := raiseFiles()
	boundHeap()
	listener, err := c.listen()
	if err != nil {
		return err
	}
	publishers, viewers, clients := c.limits(files)
	if publishers.Total+viewers.Total+clients*rtp.Sockets+reservedFiles > int(min(files, maxFiles)) {
		log.Warn("open files will run out before the limits are reached: raise them with ulimit -Hn",
			"files", files, "publishers", publishers.Total, "viewers", viewers.Total, "rtp_clients", clients)
	}
	table, err := c.tokens()
	if err != nil {
		return err
	}
	defer table.Close() // so does the process's end
	if len(c.TokenServer) > 0 && len(c.APIAllow) > 0 {
		log.Warn("--api-allow changes nothing: with --token-server, that alone says who may call the API")
	}
	transcoders := c.transcoders(log)
	defer transcoders.Close()
	proxy := server.New(server.Config{
		Transcoders: transcoders,

		Idle: c.Idle, Grace: c.Grace, Budget: c.Budget, Drain: c.Drain, Log: log, Publishers: publishers, Viewers: viewers,
		Tokens: table, Access: c.gate(),
		RTP: rtp.NewSender(c.policy(), clients, log),
	})
	front := proxy.HTTP()
	if front.TLSConfig, err = c.tls(); err != nil {
		return err
	}
	c.announce(os.Stdout, listener.Addr(), publishers.Total, viewers.Total)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		<-ctx.Done()
		stop() // a second signal ends the process at once
		c.drain(proxy, front, log)
	}()
	err = c.serve(ctx, front, listener)
	stop()
	<-drained
	return err
}

// maxSpares is more than anyone needs, and less than hurts.
const maxSpares = 64

// transcoders are those of this build.
func (c *serve) transcoders(log *slog.Logger) *transcode.Pool {
	const kilo = 1000
	return transcode.NewPool(transcode.Config{
		Command: transcoderCommand(), Spares: c.TranscoderSpares, Max: c.MaxTranscodes, Log: log,
		MaxVideoBitRate: c.MaxVideoBitrate * kilo, MaxAudioBitRate: c.MaxAudioBitrate * kilo,
	})
}

// tokens are those of the file, if there is one.
func (c *serve) tokens() (*tokens.Table, error) {
	required := len(c.TokenServer) > 0
	if c.TokenFile == "" {
		return tokens.New(required), nil
	}
	return tokens.Open(c.TokenFile, required)
}

// gate is who may call the API.
func (c *serve) gate() access.Gate {
	return access.Gate{Servers: c.TokenServer, Allowed: c.APIAllow, Proxies: c.TrustedProxy, Hosts: c.APIHost}
}

// tls is the configuration for TLS; nil without a certificate.
func (c *serve) tls() (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: problem.Protocols()}, nil
}

func (c *serve) level() (level slog.Level) {
	if err := level.UnmarshalText([]byte(c.Log)); err != nil {
		panic(err) // kong let only these names through
	}
	return level
}

func (c *serve) listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", c.Listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another program: end it, or choose another with --listen", c.Listen)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s may not be used by this user: choose a port from 1024 up with --listen", c.Listen)
	case err != nil:
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}

// serve answers requests until ctx ends, then drains.
func (c *serve) serve(ctx context.Context, front *http.Server, listener net.Listener) error {
	if front.TLSConfig != nil {
		listener = problem.ListenTLS(listener, front.TLSConfig)
	} else {
		listener = problem.Listen(listener)
	}
	err := front.Serve(listener)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// drain ends all sessions and waits until viewers have got their ends, for less
// than the drain time: the process is to be gone by then.
func (c *serve) drain(proxy *server.Server, front *http.Server, log *slog.Logger) {
	late, cancel := context.WithTimeout(context.Background(), c.Drain*9/10)
	defer cancel()
	proxy.Drain()
	if err := errors.Join(front.Shutdown(late), proxy.Wait(late)); err != nil {
		log.Warn("some didn't take the end of their stream in time", "error", err)
		front.Close() // and the process's end closes the rest
	}
}

// raiseFiles raises the process's limit of open files to what the system
// allows, and returns it: each viewer takes one.
func raiseFiles() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	limit.Cur = limit.Max
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) // it worked above
	}
	return limit.Cur
}

// What is left of the open files after a reserve goes to publishers, RTP clients
// and viewers, so that it isn't the accepting of connections that fails.
const (
	reservedFiles  = 64      // listeners, logs, connections that haven't asked yet
	publisherShare = 10      // one in so many
	rtpShare       = 10      // likewise
	maxFiles       = 1 << 30 // what Linux could ever allow (fs.nr_open)
)

// limits are how many publishers, viewers and RTP clients there may be.
func (c *serve) limits(files uint64) (publishers, viewers server.Limits, clients int) {
	room := int(min(files, maxFiles)) - reservedFiles
	rest := room - room/publisherShare - room/rtpShare
	return server.Limits{Total: orElse(c.MaxPublishers, room/publisherShare), PerAddress: c.MaxPublishersPerAddress},
		server.Limits{Total: orElse(c.MaxViewers, rest), PerAddress: c.MaxViewersPerAddress},
		orElse(c.MaxRTPClients, room/rtpShare/rtp.Sockets)
}

// policy is where RTP may be sent.
func (c *serve) policy() rtp.Policy {
	if len(c.RTPAllow) == 0 {
		return rtp.DefaultPolicy()
	}
	var p rtp.Policy
	for _, n := range c.RTPAllow {
		p = append(p, n.Prefix)
	}
	return p
}

// orElse is what the operator set, or what else there is room for.
func orElse(set, room int) int {
	if set > 0 {
		return set
	}
	return max(room, 1)
}

// heapGrowth is how much of the live heap may pile up before it is collected,
// in percent. The live heap is a few seconds of media, so Go's default of 100
// with its least heap of 4 MiB mostly costs memory: at 100 viewers 45 KiB a
// viewer were resident, with this 30.
const heapGrowth = 50

// boundHeap sets heapGrowth unless the operator chose otherwise.
func boundHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}

// fewViewers is where the limit of viewers is worth a word, if nobody set it.
const fewViewers = 4000

// announce tells a person where to go, and what will not work.
func (c *serve) announce(w io.Writer, addr net.Addr, publishers, viewers int) {
	scheme, example := "http", ""
	if c.TLSCert != "" {
		scheme = "https"
	}
	base := fmt.Sprintf("%s://%s/stream/", scheme, reachable(addr))
	example = base + "demo"
	fmt.Fprintf(w, "tureen listens on %s\n", addr)
	fmt.Fprintf(w, "  publish  curl -T clip.webm %s   (PUT or POST to %s{session id})\n", example, base)
	fmt.Fprintf(w, "  watch    ffplay %s   (or open it in a browser)\n", example)
	if transcoder.Available {
		fmt.Fprintf(w, "  formats  WebM or Matroska with VP8 and Vorbis pass through; MP4, MPEG-TS, FLV, Ogg and others are transcoded\n")
	} else {
		fmt.Fprintf(w, "  formats  WebM or Matroska with VP8 and Vorbis; this build has no transcoder, other formats get 415\n")
	}
	fmt.Fprintf(w, "  api      %s\n", c.mode())
	switch {
	case c.MaxViewers > 0 || c.MaxPublishers > 0:
		fmt.Fprintf(w, "  limits   %d publishers, %d viewers at once\n", publishers, viewers)
	case viewers < fewViewers:
		fmt.Fprintf(w, "  limits   %d publishers, %d viewers at once, for want of open files: raise them with ulimit -Hn\n", publishers, viewers)
	}
}

// mode tells who may do what.
func (c *serve) mode() string {
	if len(c.TokenServer) > 0 {
		return "for " + list(c.TokenServer) + " alone; a session needs a token: tureen token add SESSION"
	}
	if len(c.APIAllow) > 0 {
		return "for this machine and " + list(c.APIAllow) + "; sessions are open to everyone (--token-server closes them)"
	}
	return "for this machine; sessions are open to everyone (--token-server closes them)"
}

func list(networks []access.Network) string {
	texts := make([]string, len(networks))
	for i, n := range networks {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}

// reachable is an address that this machine's clients can use.
func reachable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return fmt.Sprintf("localhost:%d", tcp.Port)
}
