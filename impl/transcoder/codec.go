//go:build cgo

package transcoder

import (
	"fmt"
	"strings"

	"github.com/go-gst/go-gst/gst"

	"tureen/impl/media"
)

// codecs are the contract's short names of GStreamer's media types.
var codecs = map[string]string{
	"video/x-vp8": media.VP8, "video/x-vp9": "vp9", "video/x-av1": "av1", "video/x-h264": "h264", "video/x-h265": "h265",
	"video/x-theora": "theora", "image/jpeg": "mjpeg", "video/x-h263": "h263", "video/x-flash-video": "h263",
	"video/x-prores": "prores", "video/x-dv": "dv", "video/x-wmv": "wmv", "video/x-raw": "raw",
	"audio/x-vorbis": media.Vorbis, "audio/x-opus": "opus", "audio/x-flac": "flac", "audio/x-ac3": "ac3",
	"audio/x-eac3": "eac3", "audio/x-dts": "dts", "audio/x-speex": "speex", "audio/x-raw": "pcm",
	"audio/x-mulaw": "pcm", "audio/x-alaw": "pcm", "audio/x-wavpack": "wavpack", "audio/x-alac": "alac",
	"audio/x-wma": "wma",
}

// codecOf is the contract's name of what a pad's caps describe; the media type
// itself where it has none.
func codecOf(s *gst.Structure) string {
	name := s.Name()
	if codec, ok := codecs[name]; ok {
		return codec
	}
	switch name {
	case "video/mpeg":
		return fmt.Sprintf("mpeg%d", number(s, "mpegversion"))
	case "audio/mpeg":
		if number(s, "mpegversion") != 1 {
			return "aac"
		}
		return fmt.Sprintf("mp%d", max(number(s, "layer"), 1))
	}
	_, short, _ := strings.Cut(name, "/")
	return strings.TrimPrefix(short, "x-")
}

// isCodec reports whether caps describe what a decoder takes, or gives.
func isCodec(s *gst.Structure) bool {
	switch s.Name() {
	case "audio/mpeg": // of which an MPEG-TS doesn't tell the layer
		return number(s, "mpegversion") != 1 || number(s, "layer") > 0
	case "video/mpeg":
		return true
	}
	return codecs[s.Name()] != ""
}

// isRaw reports whether caps describe what an encoder takes.
func isRaw(s *gst.Structure) bool { return s.Name() == "video/x-raw" || s.Name() == "audio/x-raw" }

// number is an integer field; 0 when there is none.
func number(s *gst.Structure, field string) int {
	v, err := s.GetValue(field)
	if err != nil {
		return 0
	}
	n, _ := v.(int)
	return n
}

// wrappings are media types that stand around a single track.
var wrappings = map[string]media.Kind{
	"application/x-id3": media.Audio, "application/x-apetag": media.Audio, "application/x-yuv4mpeg": media.Video,
}

// kindOf tells by its media type what a pad carries; false when it is neither
// pictures nor sound.
func kindOf(s *gst.Structure) (media.Kind, bool) {
	if kind, ok := wrappings[s.Name()]; ok {
		return kind, true
	}
	class, _, _ := strings.Cut(s.Name(), "/")
	switch class {
	case "video", "image":
		return media.Video, true
	case "audio":
		return media.Audio, true
	}
	return 0, false
}

// demuxers are the containers that are taken apart, by the media type that
// GStreamer finds in the bytes. A list rather than all that is installed: each
// one is a parser of hostile bytes.
var demuxers = map[string]string{
	"video/quicktime": "qtdemux", "audio/x-m4a": "qtdemux", "application/x-3gp": "qtdemux", "video/mj2": "qtdemux",
	"video/mpegts": "tsdemux", "video/x-flv": "flvdemux",
	"application/ogg": "oggdemux", "audio/ogg": "oggdemux", "video/ogg": "oggdemux",
	"video/x-matroska": "matroskademux", "audio/x-matroska": "matroskademux",
	"video/webm": "matroskademux", "audio/webm": "matroskademux",
	"video/x-msvideo": "avidemux", "video/x-ms-asf": "asfdemux", "application/mxf": "mxfdemux",
	"multipart/x-mixed-replace": "multipartdemux",
}

// demuxerOf is the element that takes a container apart; "" for what is no
// container.
func demuxerOf(s *gst.Structure) string {
	if v, err := s.GetValue("systemstream"); err == nil && v == true && s.Name() == "video/mpeg" {
		return "mpegpsdemux"
	}
	return demuxers[s.Name()]
}
