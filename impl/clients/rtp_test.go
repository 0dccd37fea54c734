package clients_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tureen/fixtures/stamp"
	"tureen/fixtures/synth"
	"tureen/loadgen/publish"
)

// freePorts is an RTP client on loopback whose four ports nobody has, for a
// program to listen on.
func freePorts(t *testing.T) string {
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
		client := first.LocalAddr().String()
		first.Close()
		if free {
			return client
		}
	}
	t.Fatal("no four ports in a row are free")
	return ""
}

// sdp writes a live session's description for its client to a folder.
func (p *proxy) sdp(ctx context.Context, t *testing.T, folder, session string) {
	t.Helper()
	curl := run(ctx, t, "curl", args(words("-sS --fail-with-body -o stream.sdp -w %{content_type}"), []string{p.url(session) + "/sdp"}),
		inFolder(folder))
	curl.succeeds(t)
	if got := curl.stdout.String(); got != "application/sdp" {
		t.Errorf("the description is %s", got)
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

// rtpSources publish the loop to a session of the proxy's until the test ends.
var rtpSources = map[string]struct {
	publish func(ctx context.Context, t *testing.T, p *proxy, session string)
	// untouched is whether each picture follows, from one of the publisher's key
	// frames on; an encoder may leave some out, and chooses key frames itself
	// (FMT-2).
	untouched bool
}{
	"passthrough": {func(ctx context.Context, t *testing.T, p *proxy, session string) {
		source, err := publish.Open(loopClip)
		if err != nil {
			t.Fatal(err)
		}
		sends(ctx, t, p.address(), session, source)
	}, true},
	"transcoded": {func(ctx context.Context, t *testing.T, p *proxy, session string) {
		run(ctx, t, "ffmpeg", args(words("-nostdin -v error -re -stream_loop -1 -i"), []string{file(t, open(t, loopClip))},
			words("-c:v libx264 -preset ultrafast -tune zerolatency -g 30 -c:a aac -f matroska -cluster_time_limit 0 -method PUT"),
			[]string{p.url(session)}))
	}, false},
}

// TestRTPReceivers has programs play a stream by its SDP alone, coming when it
// is under way: every picture in order, the tone at its pitch.
func TestRTPReceivers(t *testing.T) {
	for kind, source := range rtpSources {
		for name, receiver := range rtpReceivers {
			t.Run(kind+" "+name, func(t *testing.T) {
				ctx := begin(t)
				session, client, folder := newSession(t, plain), freePorts(t), t.TempDir()
				plain.curlCalls(ctx, t, http.StatusCreated, "POST", "add-token?type=http,rtp-udp&sessionid="+session+"&udp-clients="+client)
				viewer := watch(ctx, t, plain.url(session), true)
				source.publish(ctx, t, plain, session)
				viewer.await(ctx, t, 1)
				plain.sdp(ctx, t, folder, session)
				receiver.play(ctx, t, folder)
				plain.curlCalls(ctx, t, http.StatusOK, "DELETE", "revoke-token?sessionid="+session)

				pictures := planes(t, read(t, folder, "pictures"), receiver.pictureBytes)
				if least := int(listened/time.Second) * loopRate; len(pictures) < least {
					t.Errorf("%d pictures were decoded, want at least %d", len(pictures), least)
				}
				if source.untouched {
					stamps(t, pictures)
				} else {
					checkRise(t, pictures)
				}
				checkPitch(t, read(t, folder, "sound"))
			})
		}
	}
}

// checkRise reads the numbers of pictures in bare luma, and expects them to rise.
func checkRise(t *testing.T, luma [][]byte) {
	t.Helper()
	numbers := make([]int, len(luma))
	for i, plane := range luma {
		n, err := stamp.ReadLuma(plane, loopWidth, loopWidth, loopHeight)
		if err != nil {
			t.Fatalf("decoded picture %d: %v", i, err)
		}
		numbers[i] = n
	}
	if err := rise(numbers); err != nil {
		t.Error(err)
	}
}

// rise expects each number of the loop's pictures to follow the one before, but
// for one in twenty that may be missing (FMT-2).
func rise(numbers []int) error {
	missing := 0
	for i := 1; i < len(numbers); i++ {
		step := (numbers[i] - numbers[i-1] + loopPictures) % loopPictures
		if step == 0 || step > loopRate {
			return fmt.Errorf("the picture numbered %d is followed by %d", numbers[i-1], numbers[i])
		}
		missing += step - 1
	}
	if missing > len(numbers)/20 {
		return fmt.Errorf("%d pictures of %d are missing", missing, len(numbers)+missing)
	}
	return nil
}

// TestRiseSeesFaults makes sure that the judge of numbers can say no.
func TestRiseSeesFaults(t *testing.T) {
	twenty := make([]int, 20)
	for i := range twenty {
		twenty[i] = (loopPictures - 10 + i) % loopPictures
	}
	tests := map[string]struct {
		numbers []int
		fault   bool
	}{
		"round":        {twenty, false},
		"one missing":  {append(slices.Clone(twenty), 11), false},
		"two missing":  {append(slices.Clone(twenty), 12), true},
		"one twice":    {append(slices.Clone(twenty), 9), true},
		"a step back":  {append(slices.Clone(twenty), 8), true},
		"a far one":    {append(slices.Clone(twenty), 50), true},
		"out of place": {append([]int{3}, twenty...), true},
	}
	for name, test := range tests {
		if err := rise(test.numbers); (err != nil) != test.fault {
			t.Errorf("%s: %v", name, err)
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
