package clients_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/loadgen/publish"
	"tureen/loadgen/webm"
)

// rounds is how often a test repeats what it does: as the variable says, or a
// few times.
func rounds(t *testing.T, variable string, few int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is no number of rounds", variable, s)
	}
	return n
}

// damage changes a body in a way that the seed decides.
func damage(body []byte, r *rand.Rand) ([]byte, string) {
	b := slices.Clone(body)
	place := func(length int) int { return r.IntN(max(1, len(b)-length)) }
	switch r.IntN(5) {
	case 0:
		n := 1 + r.IntN(60)
		for range n {
			b[place(0)] ^= 1 << r.IntN(8)
		}
		return b, fmt.Sprintf("%d bits flipped", n)
	case 1: // headers are the best place for trouble
		n := 1 + r.IntN(20)
		for range n {
			b[r.IntN(min(len(b), 2000))] ^= 1 << r.IntN(8)
		}
		return b, fmt.Sprintf("%d bits of the first 2,000 bytes flipped", n)
	case 2:
		length := 1 + r.IntN(len(b)/3)
		at := place(length)
		return slices.Delete(b, at, at+length), fmt.Sprintf("%d bytes cut out at %d", length, at)
	case 3:
		at := 1 + r.IntN(len(b)-1)
		return b[:at], fmt.Sprintf("cut off after %d bytes", at)
	default:
		length := min(1<<r.IntN(15), len(b)/4)
		from, to := place(length), place(length)
		block := slices.Clone(b[from : from+length])
		copy(b[from:], b[to:to+length])
		copy(b[to:], block)
		return b, fmt.Sprintf("%d bytes at %d and %d swapped", length, from, to)
	}
}

// beginning is a clip's first moments: whole clips would take as long as they
// play.
func beginning(c *fixtures.Clip) []byte {
	const moments = 1500 * time.Millisecond
	end, first := c.Frames[0].End, c.Frames[0].PTS
	for _, f := range c.Frames {
		if f.PTS-first < moments {
			end = max(end, f.End)
		}
	}
	return c.Data[:end]
}

// kinds are all clips that can be played, those that pass and those that don't.
func kinds(t *testing.T) (pass, transcoded []*fixtures.Clip) {
	t.Helper()
	for _, name := range fixtures.Names() {
		c := open(t, name)
		if c.Malformed || len(c.Frames) == 0 {
			continue
		}
		passes := c.Container == "webm" || c.Container == "matroska"
		for _, track := range c.Tracks {
			passes = passes && (track.Codec == "vp8" || track.Codec == "vorbis" || track.Kind == "subtitle")
		}
		if passes {
			pass = append(pass, c)
		} else {
			transcoded = append(transcoded, c)
		}
	}
	return pass, transcoded
}

// follower watches a stream and counts its frames. A lost one shows as a gap.
type follower struct {
	frames map[webm.Kind]int
	newest map[webm.Kind]time.Duration
	gaps   []string
	err    error
}

func (f *follower) follow(body io.Reader) {
	var scanner webm.Scanner
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			n, complete, err := scanner.Next(p)
			if err != nil {
				f.err = err
				return
			}
			if p = p[n:]; complete {
				f.see(scanner.Frame)
			}
		}
		if err != nil {
			if err != io.EOF {
				f.err = err
			}
			return
		}
	}
}

func (f *follower) see(frame webm.Frame) {
	const between = 40 * time.Millisecond // more than lies between two frames of a track
	k := frame.Kind
	if d := frame.Timestamp - f.newest[k]; f.frames[k] > 0 && d > between {
		f.gaps = append(f.gaps, fmt.Sprintf("%v of %v before %v", d, k, frame.Timestamp))
	}
	f.frames[k]++
	f.newest[k] = frame.Timestamp
}

// audience is a passed-through stream with viewers that lose nothing.
type audience struct {
	end       func() error
	followers []*follower
	done      sync.WaitGroup
}

// attend publishes the loop, and has it watched by so many.
func attend(ctx context.Context, t *testing.T, p *proxy, viewers int) *audience {
	t.Helper()
	source, err := publish.Open(loopClip)
	if err != nil {
		t.Fatal(err)
	}
	a, session := &audience{}, newSession(t, p)
	first := watch(ctx, t, p.url(session), true)
	a.end = sends(ctx, t, p.address(), session, source)
	first.await(ctx, t, 1)
	for range viewers {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url(session), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		f := &follower{frames: map[webm.Kind]int{}, newest: map[webm.Kind]time.Duration{}}
		a.followers = append(a.followers, f)
		a.done.Go(func() {
			defer answer.Body.Close()
			f.follow(answer.Body)
		})
	}
	return a
}

// check ends the stream and expects that its viewers have got all of it.
func (a *audience) check(t *testing.T) {
	t.Helper()
	if err := a.end(); err != nil {
		t.Errorf("the healthy publisher: %v", err)
	}
	a.done.Wait()
	for i, f := range a.followers {
		if f.err != nil || len(f.gaps) > 0 || f.frames[webm.Video] == 0 || f.frames[webm.Audio] == 0 {
			t.Errorf("viewer %d got %v frames, error: %v, gaps: %v", i, f.frames, f.err, f.gaps)
		}
	}
}

// TestDamagedBodies has bodies of all formats, damaged in every way, published
// beside a stream that is watched. That loses nothing, each publisher gets a
// status that makes sense, and nothing of them is left (SRV-1). The variable
// TUREEN_DAMAGED says how many bodies, TUREEN_SEED which.
func TestDamagedBodies(t *testing.T) {
	n := rounds(t, "TUREEN_DAMAGED", 24)
	seed := uint64(rounds(t, "TUREEN_SEED", 1))
	p := startAlone(t, "--idle=2s", "--grace=100ms", "--max-transcodes=100")
	before := p.quiet(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*10*time.Second)
	defer cancel()
	const viewers = 20
	healthy := attend(ctx, t, p, viewers)

	pass, transcoded := kinds(t)
	var mu sync.Mutex
	statuses := map[int]int{}
	var publishers sync.WaitGroup
	slots := make(chan struct{}, 3) // at once
	for i := range n {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		clip := transcoded[i%len(transcoded)]
		if i%5 == 0 {
			clip = pass[r.IntN(len(pass))]
		}
		name := clip.Name
		body, what := damage(beginning(clip), r)
		session := newSession(t, p)
		slots <- struct{}{}
		publishers.Go(func() {
			defer func() { <-slots }()
			began := time.Now()
			status, answer, err := put(ctx, p.url(session), body, i%2 == 0)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
			if err != nil || !slices.Contains([]int{200, 400, 415, 500}, status) || took > 30*time.Second {
				t.Errorf("body %d, %s with %s: %d after %v, error: %v, %s\n%s", i, name, what, status, took, err, answer, p.logOf(session))
			}
			if status == http.StatusInternalServerError {
				t.Logf("body %d, %s with %s: %s", i, name, what, answer)
			}
		})
	}
	publishers.Wait()
	t.Logf("the answers: %v", statuses)
	healthy.check(t)
	p.checkFootprint(t, before)
	p.checkGoroutines(t)
}

// put publishes a body, of fixed length or in chunks, and returns the answer.
func put(ctx context.Context, url string, body []byte, fixed bool) (status int, answer string, err error) {
	var reader io.Reader = bytes.NewReader(body)
	if !fixed {
		reader = io.MultiReader(reader) // hides its length
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, reader)
	if err != nil {
		return 0, "", err
	}
	a, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	return a.StatusCode, string(b), err
}
