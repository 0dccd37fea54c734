package clients_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tureen/fixtures"
	"tureen/fixtures/synth"
)

// madeRate is how many pictures a second the clip has that others are made of.
const madeRate = 30

// original makes the clip that others are made of: 3 s of 320×180 and stereo
// sound, both without loss.
var original = sync.OnceValues(func() ([]byte, error) {
	folder, err := os.MkdirTemp("", "tureen-clients-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	clip, err := synth.Make(context.Background(), folder, synth.Spec{
		Name: "original", Extension: ".mkv", Container: "matroska", Duration: 3 * time.Second,
		Video: &synth.Video{Width: 320, Height: 180, FPS: madeRate, Encoder: words("-c:v ffv1")},
		Audio: []synth.Audio{{Rate: 48000, Channels: 2, Encoder: words("-c:a pcm_s16le")}},
	})
	if err != nil {
		return nil, err
	}
	return clip.Data, nil
})

// made has ffmpeg make a clip of the original, or of other bytes, by options.
func made(ctx context.Context, t *testing.T, options ...string) []byte {
	t.Helper()
	source, err := original()
	if err != nil {
		t.Fatal(err)
	}
	return remade(ctx, t, source, options...)
}

func remade(ctx context.Context, t *testing.T, source []byte, options ...string) []byte {
	t.Helper()
	folder := t.TempDir()
	run(ctx, t, "ffmpeg", args(words("-nostdin -v error -i"), []string{writeFile(t, source)}, options,
		[]string{filepath.Join(folder, "made")})).succeeds(t)
	return read(t, folder, "made")
}

// writeFile writes bytes to a file of the test's.
func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "media")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Encoders' options that are quick. Key frames are 1 s apart.
const (
	quickH264 = "-c:v libx264 -preset ultrafast -g 30 -sc_threshold 0 -b:v 1M "
	quickAAC  = "-c:a aac -b:a 96k "
	mkv       = "-f matroska"
	ts        = "-f mpegts"
	mp4       = "-movflags +frag_keyframe+delay_moov -f mp4"
)

// making is how a clip is made, and what is to become of it.
type making struct {
	options       string
	more          []string // options with spaces
	width, height int      // as shown; 0: no pictures
	video, audio  string   // codecs at the publisher; "" for none
	passes        bool     // the sound does
	heavy         bool     // pictures may be lost where there is little power
	loose         bool     // times of pictures are the decoder's guess
}

// makings are the clips beyond the fixtures.
func makings() map[string]making {
	h264 := func(options string) making {
		return making{options: quickH264 + quickAAC + options, width: 320, height: 180, video: "h264", audio: "aac"}
	}
	sized := func(m making, width, height int) making {
		m.width, m.height = width, height
		return m
	}
	picture := func(codec, audio, options string) making {
		return making{options: options, width: 320, height: 180, video: codec, audio: audio}
	}
	sound := func(codec, options string) making { return making{options: "-vn " + options, audio: codec} }
	heavy := func(m making) making { m.heavy = true; return m }
	loose := func(m making) making { m.loose = true; return m }
	passes := func(m making) making { m.passes = true; return m }
	return map[string]making{
		"HEVC in MP4":         picture("h265", "aac", "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=30 "+quickAAC+mp4),
		"AV1 in Matroska":     picture("av1", "opus", "-c:v libaom-av1 -usage realtime -cpu-used 8 -g 30 -b:v 400k -c:a libopus "+mkv),
		"Motion JPEG in AVI":  picture("mjpeg", "pcm", "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p -c:a pcm_s16le -f avi"),
		"PCM in Matroska":     picture("h264", "pcm", quickH264+"-c:a pcm_s16le "+mkv),
		"MPEG-4 in AVI":       loose(picture("mpeg4", "mp3", "-c:v mpeg4 -b:v 800k -g 30 -c:a libmp3lame -f avi")),
		"WMV in ASF":          picture("wmv", "wma", "-c:v wmv2 -b:v 800k -g 30 -c:a wmav2 -f asf"),
		"MPEG-2 in TS":        picture("mpeg2", "mp2", "-c:v mpeg2video -b:v 1500k -g 15 -c:a mp2 "+ts),
		"MPEG-2 in PS":        picture("mpeg2", "mp2", "-c:v mpeg2video -b:v 1500k -g 15 -c:a mp2 -f vob"),
		"VP9 in MP4":          picture("vp9", "opus", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -auto-alt-ref 0 -g 30 -b:v 400k -c:a libopus "+mp4),
		"10 bits":             h264("-pix_fmt yuv420p10le " + mkv),
		"4:2:2":               h264("-pix_fmt yuv422p " + ts),
		"4:4:4":               h264("-pix_fmt yuv444p " + mp4),
		"odd size":            sized(h264("-vf scale=321:181 -pix_fmt yuv444p "+mkv), 321, 181),
		"5 pictures a second": h264("-r 5 " + mkv),
		"60 a second":         h264("-r 60 " + ts),
		"varying rate":        h264("-vf select=not(mod(n\\,3))+gt(mod(n\\,7)\\,3) -fps_mode vfr " + mkv),
		"1080p":               heavy(sized(h264("-vf scale=1920:1080 -b:v 4M "+mkv), 1920, 1080)),
		"wide pixels":         h264("-vf scale=160:180,setsar=2/1 " + mp4),
		"narrow pixels":       h264("-vf scale=640:180,setsar=1/2 " + ts),
		"interlaced":          picture("mpeg2", "mp2", "-c:v mpeg2video -b:v 1500k -g 15 -flags +ilme+ildct -top 1 -c:a mp2 "+ts),
		"B-frames in FLV":     h264("-bf 3 -f flv"),
		"mono of 8 kHz":       picture("h264", "aac", quickH264+"-ac 1 -ar 8000 -c:a aac "+mkv),
		"5.1":                 h264("-ac 6 " + mkv),
		"AC-3 of 5.1":         picture("h264", "ac3", quickH264+"-ac 6 -c:a ac3 "+ts),
		"FLAC of 96 kHz":      picture("h264", "flac", quickH264+"-ar 96000 -c:a flac "+mkv),
		"MP3 alone":           sound("mp3", "-c:a libmp3lame -f mp3"),
		"AAC alone":           sound("aac", "-c:a aac -f adts"),
		"FLAC alone":          sound("flac", "-c:a flac -f flac"),
		"WAV of 24 bits":      sound("pcm", "-c:a pcm_s24le -ar 96000 -f wav"),
		"telephone":           sound("pcm", "-ar 8000 -ac 1 -c:a pcm_mulaw -f wav"),
		"Opus in Ogg":         sound("opus", "-c:a libopus -f ogg"),
		"Vorbis in Ogg":       passes(sound("vorbis", "-c:a libvorbis -f ogg")),
		"Opus in WebM":        sound("opus", "-c:a libopus -f webm"),
		"AAC in MP4":          sound("aac", quickAAC+mp4),
		"pictures alone":      {options: "-an " + quickH264 + ts, width: 320, height: 180, video: "h264"},
		"pictures alone, FLV": {options: "-an " + quickH264 + "-f flv", width: 320, height: 180, video: "h264"},
		"pictures alone, MP4": {options: "-an " + quickH264 + mp4, width: 320, height: 180, video: "h264"},
		"two sounds":          h264("-map 0:v -map 0:a -map 0:a -filter:a:1 volume=0 " + ts),
	}
}

// TestMade sends what isn't worth a fixture: codecs, sizes, rates and forms of
// sound, made by ffmpeg on the spot.
func TestMade(t *testing.T) {
	t.Parallel()
	tests := map[string]func(context.Context, *testing.T){}
	for name, m := range makings() {
		tests[name] = func(ctx context.Context, t *testing.T) { testMade(ctx, t, m) }
	}
	together(t, tests)
}

func testMade(ctx context.Context, t *testing.T, m making) {
	t.Helper()
	clip := m.clip(made(ctx, t, args(words(m.options), m.more)...))
	got := show(ctx, t, clip, false)
	got.check(t, clip)
	if m.heavy || m.loose {
		before, seen := decode(ctx, t, clip.Data, ""), decode(ctx, t, got.raw, "")
		seen.checkOrder(t, before.numbers(t))
		seen.checkPitches(t, 3)
		seen.checkGaps(t, before)
		return
	}
	got.checkMedia(ctx, t, clip, "", madeRate)
}

// clip describes what was made.
func (m making) clip(data []byte) *fixtures.Clip {
	clip := &fixtures.Clip{File: "made", Duration: 3 * time.Second, Data: data}
	if m.video != "" {
		clip.Tracks = append(clip.Tracks, fixtures.Track{Kind: "video", Codec: m.video, Width: m.width, Height: m.height})
	}
	if m.audio != "" {
		clip.Tracks = append(clip.Tracks, fixtures.Track{Kind: "audio", Codec: m.audio})
	}
	return clip
}

// TestMadeTurned sends pictures that a player must turn.
func TestMadeTurned(t *testing.T) {
	t.Parallel()
	tests := map[string]func(context.Context, *testing.T){}
	for degrees, filter := range map[int]string{90: "transpose=1", 180: "hflip,vflip", 270: "transpose=2"} {
		tests[fmt.Sprint(degrees)] = func(ctx context.Context, t *testing.T) {
			coded := made(ctx, t, words(quickH264+quickAAC+"-vf "+filter+" -f mp4")...)
			turned := remade(ctx, t, coded, words(fmt.Sprintf("-c copy -metadata:s:v rotate=%d %s", degrees, mp4))...)
			clip := making{width: 320, height: 180, video: "h264", audio: "aac"}.clip(turned)
			got := show(ctx, t, clip, false)
			got.check(t, clip)
			got.checkMedia(ctx, t, clip, "", madeRate)
		}
	}
	together(t, tests)
}
