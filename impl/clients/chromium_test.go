package clients_test

import (
	"context"
	"fmt"
	"iter"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	_ "embed"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"tureen/fixtures/stamp"
	"tureen/loadgen/webm"
)

//go:embed testdata/player.html
var playerPage []byte

//go:embed testdata/recorder.html
var recorderPage []byte

// The size in which the page looks at pictures.
const (
	lookWidth  = 160
	lookHeight = 90
)

// playTime is for how long a viewer in the browser must play, in seconds.
const playTime = 2.0

// played is how a player on the page does.
type played struct {
	// After is when an event came, in milliseconds from the player's opening.
	After struct {
		LoadedMetadata int `json:"loadedmetadata"`
		Playing        int `json:"playing"`
	} `json:"after"`
	Stalled int     `json:"stalled"` // longest wait for media, in milliseconds
	Began   float64 `json:"began"`   // media time in seconds
	At      float64 `json:"at"`
	Width   int     `json:"width"`
	Height  int     `json:"height"`
	Total   int     `json:"total"` // pictures, so far
	Dropped int     `json:"dropped"`
	Decoded int     `json:"decoded"`
	Sound   int     `json:"sound"` // bytes decoded
	Ended   bool    `json:"ended"`
	Error   string  `json:"error"`
	Fault   string  `json:"fault"` // of looking at a picture
	Shown   []struct {
		At   float64 `json:"at"`
		Luma []byte  `json:"luma"`
	} `json:"shown"`
}

// TestChromium has headless Chromium play streams with <video src>, on a page of
// another origin.
func TestChromium(t *testing.T) {
	ctx := begin(t)
	browser := startBrowser(ctx, t)
	t.Run("late, and to the end", func(t *testing.T) { testPlayer(t, browser) })
	t.Run("two at once", func(t *testing.T) { testTwoPlayers(t, browser) })
	t.Run("a publisher's return", func(t *testing.T) { testPlayerOverReturn(t, browser) })
	t.Run("HTTP/2", func(t *testing.T) { testPlayerOverTLS(t, browser) })
	t.Run("records VP8", func(t *testing.T) { testRecorder(t, browser, "video/webm;codecs=vp8,opus", true) })
	t.Run("records H.264", func(t *testing.T) { testRecorder(t, browser, "video/webm;codecs=h264,opus", false) })
}

// startBrowser starts a browser that trusts any certificate.
func startBrowser(ctx context.Context, t *testing.T) context.Context {
	t.Helper()
	// The browser's life isn't the test's context's, so that it ends in order.
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(ctx),
		append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(need(t, "chromium", "chromium-browser", "google-chrome")),
			chromedp.NoSandbox, // containers' users may not make one
			chromedp.IgnoreCertErrors,
			chromedp.Flag("autoplay-policy", "no-user-gesture-required"), // or nothing sounds
		)...)
	t.Cleanup(stop)
	browser, _ := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		ending, cancel := context.WithTimeout(browser, drainTime)
		defer cancel()
		if err := chromedp.Cancel(ending); err != nil {
			t.Logf("ending Chromium: %v", err)
		}
	})
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("starting Chromium: %v", err)
	}
	return browser
}

// tab is a window of the browser that shows one of the tests' pages.
type tab struct {
	ctx context.Context
}

func openTab(t *testing.T, browser context.Context) *tab {
	t.Helper()
	return openPage(t, browser, playerPage)
}

func openPage(t *testing.T, browser context.Context, content []byte) *tab {
	t.Helper()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(content)
	}))
	t.Cleanup(page.Close)
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("opening a window: %v", err)
	}
	ctx, cancel = context.WithTimeout(ctx, testTime)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate(page.URL)); err != nil {
		t.Fatalf("opening a page: %v", err)
	}
	return &tab{ctx}
}

// player is a player on the page.
type player struct {
	tab     *tab
	number  int
	url     string
	answers iter.Seq2[network.EventResponseReceived, error]
}

// watch has the page open a player.
func (b *tab) watch(t *testing.T, url string) *player {
	t.Helper()
	answers := chromedp.Events(b.ctx, network.ResponseReceived)
	number, err := chromedp.Run(b.ctx, chromedp.Evaluate[int](fmt.Sprintf("watch(%q)", url)))
	if err != nil {
		t.Fatalf("opening a player: %v", err)
	}
	return &player{b, number, url, answers}
}

// came judges the answer that a player got, which must have come by that
// protocol.
func (p *player) came(t *testing.T, protocol string) {
	t.Helper()
	for answer, err := range p.answers {
		if err != nil {
			t.Fatalf("waiting for the answer to a player: %v", err)
		}
		r := answer.Response
		if r.URL != p.url {
			continue
		}
		if r.Status != http.StatusOK || r.MimeType != "video/webm" || r.Protocol != protocol {
			t.Errorf("the player was answered %d, %s by %s; want 200, video/webm by %s",
				r.Status, r.MimeType, r.Protocol, protocol)
		}
		return
	}
}

// ask calls one of the page's functions on a player, waits for what it waits
// for, and returns the player's state then.
func (p *player) ask(t *testing.T, function string, arguments ...any) played {
	t.Helper()
	call := fmt.Sprintf("%s(%d", function, p.number)
	for _, argument := range arguments {
		call += fmt.Sprintf(", %v", argument)
	}
	call += ")"
	state, err := chromedp.Run(p.tab.ctx, chromedp.Evaluate[played](call, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", call, err)
	}
	return state
}

// plays waits until a player has played for a while, and judges it.
func (p *player) plays(t *testing.T, width, height int, protocol string) played {
	t.Helper()
	s := p.ask(t, "played", playTime)
	t.Logf("Chromium knows the tracks after %d ms, plays after %d ms, and from %.3f s to %.3f s decodes %d pictures "+
		"(%d of %d dropped) and %d bytes of sound",
		s.After.LoadedMetadata, s.After.Playing, s.Began, s.At, s.Decoded, s.Dropped, s.Total, s.Sound)
	if s.Error != "" || s.Ended || s.At-s.Began < playTime {
		t.Fatalf("the player is at %g s, ended: %t, error %q; want more than %g s from %g s on",
			s.At, s.Ended, s.Error, playTime, s.Began)
	}
	if s.Width != width || s.Height != height {
		t.Errorf("the player shows pictures of %d×%d, want %d×%d", s.Width, s.Height, width, height)
	}
	if s.Decoded <= loopRate || s.Sound == 0 {
		t.Errorf("the player decoded %d pictures and %d bytes of sound in %g s", s.Decoded, s.Sound, playTime)
	}
	if s.Dropped*4 > s.Total {
		t.Errorf("the player dropped %d of %d pictures", s.Dropped, s.Total)
	}
	p.came(t, protocol)
	return s
}

// ends expects a player to end without an error, as its publisher does.
func (p *player) ends(t *testing.T) {
	t.Helper()
	if end := p.ask(t, "ended"); !end.Ended || end.Error != "" {
		t.Errorf("the publisher ended; the player has ended: %t, error %q", end.Ended, end.Error)
	}
}

// slack is how many pictures' time a number and its time may differ by: times
// are rounded to milliseconds, and never as much as half a picture off.
const slack = 0.5

// numbers reads the stamps of the pictures that a player showed, and expects
// that they rise as their times do, beginning anew after modulo. A picture may
// be on show when it is looked at again, and on a busy machine some are missed.
func numbers(t *testing.T, p played, modulo int) []int {
	t.Helper()
	if p.Fault != "" || len(p.Shown) == 0 {
		t.Fatalf("%d pictures were looked at: %s", len(p.Shown), p.Fault)
	}
	var all []int
	risen := 0
	for i, picture := range p.Shown {
		n, err := stamp.ReadLuma(picture.Luma, lookWidth, lookWidth, lookHeight)
		if err != nil {
			t.Fatalf("picture %d that was shown, at %g s: %v", i, picture.At, err)
		}
		if i > 0 {
			risen += (n - all[i-1] + modulo) % modulo
		}
		all = append(all, n)
		if passed := (picture.At - p.Shown[0].At) * loopRate; math.Abs(passed-float64(risen)) > slack {
			t.Fatalf("the numbers that were shown, %v, have risen by %d where the time has by %.1f pictures", all, risen, passed)
		}
	}
	if risen < len(all)/2 {
		t.Errorf("the numbers that were shown, %v, hardly rise", all)
	}
	return all
}

// testPlayer comes late, watches, and sees the publisher end.
func testPlayer(t *testing.T, browser context.Context) {
	ctx := begin(t)
	air := onAir(ctx, t, plain)
	player := openTab(t, browser).watch(t, air.url)
	shown := numbers(t, player.plays(t, loopWidth, loopHeight, "http/1.1"), loopPictures)
	sent, _ := air.state()
	t.Logf("pictures %d to %d were shown, %d were on the air", shown[0], shown[len(shown)-1], sent)

	air.end()
	player.ends(t)
}

// testTwoPlayers watches one stream twice, the second viewer from later on.
func testTwoPlayers(t *testing.T, browser context.Context) {
	ctx := begin(t)
	air := onAir(ctx, t, plain)
	page := openTab(t, browser)
	first := page.watch(t, air.url)
	numbers(t, first.plays(t, loopWidth, loopHeight, "http/1.1"), loopPictures)
	second := page.watch(t, air.url)
	before := first.ask(t, "state").At
	numbers(t, second.plays(t, loopWidth, loopHeight, "http/1.1"), loopPictures)
	after := first.ask(t, "state")
	if after.Error != "" || after.Ended || after.At < before+playTime-1 {
		t.Errorf("while another played for %g s the first player went from %g s to %g s, ended: %t, error %q",
			playTime, before, after.At, after.Ended, after.Error)
	}
}

// mostStalled is how long the player may wait for media when the publisher
// returns at once: until that has started, and some media has come.
const mostStalled = 3 * time.Second

// testPlayerOverReturn kills a publisher in mid-stream, and starts it again when
// the player has nothing left to play. It plays on, and shows what comes then.
func testPlayerOverReturn(t *testing.T, browser context.Context) {
	ctx := begin(t)
	session, path := newSession(t, plain), file(t, open(t, loopClip))
	witness := watch(ctx, t, plain.url(session), true)
	relay := relayTo(t, plain)
	first := run(ctx, t, "ffmpeg", copies(relay.url(session), path, ""))
	witness.await(ctx, t, late)
	player := openTab(t, browser).watch(t, plain.url(session))
	numbers(t, player.plays(t, loopWidth, loopHeight, "http/1.1"), loopPictures)
	first.kill(t)
	plain.lost(ctx, t, session, 1)
	witness.await(ctx, t, len(of(webm.Video, relay.sent(t))))
	joint := witness.time() + time.Millisecond // after the last picture
	player.ask(t, "waiting")
	second := run(ctx, t, "ffmpeg", copies(plain.url(session), path, ""))
	s := player.ask(t, "passed", joint.Seconds(), playTime)
	t.Logf("Chromium is at %.3f s, %.3f s after the return, and waited for %d ms", s.At, s.At-joint.Seconds(), s.Stalled)
	if s.Error != "" || s.Ended || s.At-joint.Seconds() < playTime {
		t.Fatalf("the publisher returned at %v; the player is at %g s, ended: %t, error %q", joint, s.At, s.Ended, s.Error)
	}
	if stalled := time.Duration(s.Stalled) * time.Millisecond; stalled > mostStalled {
		t.Errorf("the player waited for %v, want at most %v", stalled, mostStalled)
	}
	shown, passed := numbers(t, s, loopPictures), (s.Shown[0].At-joint.Seconds())*loopRate
	if gap := passed - float64(shown[0]); gap < 0 || gap > 2 {
		t.Errorf("picture %d is shown %.1f pictures' time after the return: the gap isn't closed", shown[0], passed)
	}
	second.interrupt(t)
	player.ends(t)
}

// testPlayerOverTLS watches a file that is being sent, to its end.
func testPlayerOverTLS(t *testing.T, browser context.Context) {
	ctx := begin(t)
	p, certificate := startTLS(t)
	clip, session := open(t, plainClip), newSession(t, p)
	page := openTab(t, browser)
	witness := watchTLS(ctx, t, p.url(session), certificate)
	publisher := run(ctx, t, "curl",
		args([]string{"--cacert", certificate, "-T", file(t, clip)}, curlPublishes(p.url(session))))
	witness.await(ctx, t, late)
	player := page.watch(t, p.url(session))
	numbers(t, player.plays(t, loopWidth, loopHeight, "h2"), stamp.Numbers)
	publisher.succeeds(t)
	player.ends(t)
}

// watchTLS has curl follow a stream over TLS from its beginning.
func watchTLS(ctx context.Context, t *testing.T, url, certificate string) *recording {
	t.Helper()
	curl, body := curlWatches(ctx, t, url, "--cacert", certificate, "-H", "Prefer: wait=30")
	asks(ctx, t, curl)
	return body
}

// testRecorder has a page record, and send what it records as it comes.
func testRecorder(t *testing.T, browser context.Context, kind string, passes bool) {
	ctx := begin(t)
	page := openPage(t, browser, recorderPage)
	can, err := chromedp.Run(page.ctx, chromedp.Evaluate[bool](fmt.Sprintf("supports(%q)", kind)))
	if err != nil {
		t.Fatal(err)
	}
	if !can {
		t.Skipf("this Chromium doesn't record %s", kind)
	}
	session := newSession(t, plain)
	viewer := watch(ctx, t, plain.url(session), true)
	type recorded struct {
		Answers []int  `json:"answers"`
		Data    []byte `json:"data"`
	}
	const milliseconds = 4000
	r, err := chromedp.Run(page.ctx, chromedp.Evaluate[recorded](
		fmt.Sprintf("record(%q, %q, %d)", plain.url(session), kind, milliseconds), chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("recording: %v", err)
	}
	for i, status := range r.Answers {
		if status != http.StatusOK {
			t.Errorf("part %d of %d was answered %d", i, len(r.Answers), status)
		}
	}
	got := viewer.clean(t)
	sent, seen := of(webm.Video, published(t, r.Data)), of(webm.Video, got.frames)
	t.Logf("Chromium sent %d pictures in %d parts, the viewer got %d, and %d packets of sound",
		len(sent), len(r.Answers), len(seen), len(of(webm.Audio, got.frames)))
	if len(seen)*20 < len(sent)*19 {
		t.Errorf("the viewer got %d pictures of %d", len(seen), len(sent))
	}
	if passes {
		if err := same(sent, seen); err != nil {
			t.Errorf("the pictures aren't what Chromium sent: %v", err)
		}
	}
	heard := decode(ctx, t, viewer.recording.body, "")
	if hz := heard.pitch(time.Second, 3*time.Second); math.Abs(hz-440) > 2 {
		t.Errorf("the tone is heard at %.1f Hz, want 440", hz)
	}
}
