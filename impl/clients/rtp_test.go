package clients_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tureen/fixtures/synth"
	"tureen/impl/rtp"
	"tureen/impl/server"
	"tureen/loadgen/publish"
)

// sending is a proxy within the test that sends RTP, so that it can be told
// whom to.
type sending struct {
	*rtp.Sender
	address string
	log     *text
}

func startSending(t *testing.T) *sending {
	t.Helper()
	log := &text{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	p := &sending{Sender: rtp.NewSender(rtp.DefaultPolicy(), 0, logger), log: log}
	s := server.New(server.Config{Idle: 10 * time.Second, Budget: 3 * time.Second, Log: logger, RTP: p.Sender})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = listener.Addr().String()
	front := s.HTTP()
	served := make(chan error, 1)
	go func() { served <- front.Serve(listener) }()
	t.Cleanup(func() {
		s.Drain()
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		if err := errors.Join(front.Shutdown(ctx), s.Wait(ctx)); err != nil {
			t.Errorf("the proxy doesn't end: %v", err)
		}
		<-served
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", log)
		}
	})
	return p
}

// freePorts is a client on loopback whose four ports nobody has, for a program
// to listen on.
func freePorts(t *testing.T) rtp.Client {
	t.Helper()
	for range 100 {
		first, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := first.LocalAddr().(*net.UDPAddr).Port
		free := port%2 == 0 && port <= 65532
		for i := 1; free && i < 4; i++ {
			other, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port+i))
			if free = err == nil; free {
				other.Close()
			}
		}
		first.Close()
		if free {
			return rtp.Client{Host: "127.0.0.1", Port: uint16(port)}
		}
	}
	t.Fatal("no four ports in a row are free")
	return rtp.Client{}
}

// sdp writes a live session's description to a folder.
func (p *sending) sdp(ctx context.Context, t *testing.T, folder, session string, c rtp.Client) {
	t.Helper()
	url := fmt.Sprintf("http://%s/stream/%s/sdp?client=%s", p.address, session, c)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "application/sdp" {
		t.Fatalf("the description is answered %s, %v: %s", answer.Status, err, text)
	}
	if err := os.WriteFile(filepath.Join(folder, "stream.sdp"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// listened is how much of a stream RTP receivers play.
const listened = 5 * time.Second

// rtpReceivers play stream.sdp and leave at least so much of it in the files
// pictures (bare luma, then chroma bytes to pictureBytes) and sound (16 bits, one
// channel, 48 kHz). They come between two key frames, which lie a second apart,
// and begin at the next.
var rtpReceivers = map[string]struct {
	pictureBytes int // each picture
	play         func(ctx context.Context, t *testing.T, folder string)
}{
	"ffmpeg": {loopWidth * loopHeight, func(ctx context.Context, t *testing.T, folder string) {
		ffmpeg := run(ctx, t, "ffmpeg", words("-nostdin -v error -protocol_whitelist file,udp,rtp -i stream.sdp "+
			"-map 0:v -t 6.5 -fps_mode passthrough -pix_fmt gray -f rawvideo pictures "+
			"-map 0:a -t 6.5 -ar 48000 -ac 1 -f s16le sound"), inFolder(folder))
		ffmpeg.succeeds(t)
	}},
	"gst-launch-1.0": {loopWidth * loopHeight * 3 / 2, func(ctx context.Context, t *testing.T, folder string) {
		needElements(ctx, t, words("sdpdemux rtpvp8depay vp8dec rtpvorbisdepay vorbisdec audioconvert")...)
		r, w := pipe(t)
		gst := run(ctx, t, "gst-launch-1.0", words("-q filesrc location=stream.sdp ! sdpdemux name=demux "+
			"demux.stream_0 ! queue ! rtpvp8depay ! vp8dec ! video/x-raw,format=I420 ! fdsink "+
			"demux.stream_1 ! queue ! rtpvorbisdepay ! vorbisdec ! audioconvert ! audio/x-raw,format=S16LE,rate=48000,channels=1 ! "+
			"filesink location=sound buffer-mode=unbuffered"), withOutput(w), inFolder(folder))
		w.Close()
		file, err := os.Create(filepath.Join(folder, "pictures"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		const wanted = int64(5*loopRate+5) * loopWidth * loopHeight * 3 / 2
		if n, err := io.CopyN(file, r, wanted); err != nil {
			t.Fatalf("reading decoded pictures: %v after %d bytes", err, n)
		}
		gst.kill(t)
	}},
}

// rtpSources are streams that receivers play, over and over.
var rtpSources = map[string]string{
	"passthrough": loopClip,
}

// TestRTPReceivers has programs play a stream by its SDP alone, coming when it
// is under way: every picture in order, the tone at its pitch.
func TestRTPReceivers(t *testing.T) {
	for kind, clip := range rtpSources {
		for name, receiver := range rtpReceivers {
			t.Run(kind+" "+name, func(t *testing.T) {
				ctx := begin(t)
				p, client, folder := startSending(t), freePorts(t), t.TempDir()
				source, err := publish.Open(clip)
				if err != nil {
					t.Fatal(err)
				}
				p.Set("a", []rtp.Client{client})
				sends(ctx, t, p.address, "a", source)
				viewer := watch(ctx, t, "http://"+p.address+"/stream/a", true)
				viewer.await(ctx, t, 1)
				p.sdp(ctx, t, folder, "a", client)
				receiver.play(ctx, t, folder)

				pictures := planes(t, read(t, folder, "pictures"), receiver.pictureBytes)
				if least := int(listened/time.Second) * loopRate; len(pictures) < least {
					t.Errorf("%d pictures were decoded, want at least %d", len(pictures), least)
				}
				stamps(t, pictures)
				checkPitch(t, read(t, folder, "sound"))
			})
		}
	}
}

// loopSeconds is how many seconds of its own pitch each the loop has.
const loopSeconds = 4

// checkPitch expects decoded sound of the loop, of 16 bits in one channel, to have
// in each second the pitch that follows the second's before, and no other.
func checkPitch(t *testing.T, pcm []byte) {
	t.Helper()
	const rate = 48000
	samples := make([]float64, len(pcm)/2)
	for i := range samples {
		samples[i] = float64(int16(uint16(pcm[2*i])|uint16(pcm[2*i+1])<<8)) / math.MaxInt16
	}
	if d := time.Duration(len(samples)) * time.Second / rate; d < listened {
		t.Errorf("%v of sound were decoded, want at least %v", d, listened)
	}
	// Where in the loop it begins isn't known.
	for begin := 0; begin < rate; begin += rate / 20 {
		for first := range loopSeconds {
			if pitched(samples[min(begin, len(samples)):], rate, first) {
				return
			}
		}
	}
	t.Error("the tone isn't at its pitch")
}

// pitched reports whether each second of sound has its pitch.
func pitched(samples []float64, rate, second int) bool {
	if len(samples) < rate {
		return false
	}
	for ; len(samples) >= rate; samples, second = samples[rate:], second+1 {
		tone := samples[rate*3/10 : rate*9/10]
		own := strength(tone, rate, synth.Pitch(second%loopSeconds))
		for other := range loopSeconds {
			if other != second%loopSeconds && strength(tone, rate, synth.Pitch(other)) > own/4 {
				return false
			}
		}
		if own < 0.1 {
			return false
		}
	}
	return true
}

// strength is the amplitude of a frequency in a piece of sound.
func strength(samples []float64, rate, hz int) float64 {
	var re, im float64
	for i, s := range samples {
		sin, cos := math.Sincos(2 * math.Pi * float64(hz) * float64(i) / float64(rate))
		re, im = re+s*cos, im+s*sin
	}
	return 2 * math.Hypot(re, im) / float64(len(samples))
}

// TestPitchSeesFaults makes sure that the judge of sound can say no.
func TestPitchSeesFaults(t *testing.T) {
	const rate = 48000
	tone := func(pitch func(second int) float64) []float64 {
		samples := make([]float64, 5*rate)
		for i := range samples {
			samples[i] = 0.4 * math.Sin(2*math.Pi*pitch(i/rate)*float64(i%rate)/rate)
		}
		return samples
	}
	own := func(second int) float64 { return float64(synth.Pitch(second % loopSeconds)) }
	tests := map[string]struct {
		samples []float64
		want    bool
	}{
		"own":       {tone(own), true},
		"too high":  {tone(func(s int) float64 { return own(s) * 1.02 }), false},
		"one pitch": {tone(func(int) float64 { return own(0) }), false},
		"silence":   {make([]float64, 5*rate), false},
		"a gap":     {append(tone(own)[:2*rate], tone(own)[5*rate/2:]...), false},
		"nothing":   {nil, false},
	}
	for name, test := range tests {
		if got := pitched(test.samples, rate, 0); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
}
