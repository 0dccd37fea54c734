package transcoder

import "testing"

func TestFit(t *testing.T) {
	tests := map[string]struct {
		w, h, n, d int
		want       size
	}{
		"square pixels":     {640, 360, 1, 1, size{640, 360}},
		"none stated":       {640, 360, 0, 0, size{640, 360}},
		"PAL, wide":         {720, 576, 64, 45, size{1024, 576}},
		"NTSC":              {720, 480, 8, 9, size{640, 480}},
		"odd":               {321, 181, 1, 1, size{321, 181}},
		"narrow pixels":     {640, 180, 1, 2, size{320, 180}},
		"as large as can":   {16383, 16383, 1, 1, size{16383, 16383}},
		"too wide":          {16384, 200, 1, 1, size{8192, 100}},
		"too wide by shape": {10000, 100, 4, 1, size{10000, 25}},
		"a line":            {1, 1, 1, 4, size{1, 1}},
	}
	for name, test := range tests {
		if got := fit(test.w, test.h, test.n, test.d); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestVideoBitRate(t *testing.T) {
	tests := map[string]struct {
		size    size
		rate    float64
		ceiling int
		want    int
	}{
		"the reference":       {size{640, 360}, 30, 0, 1_200_000},
		"none stated":         {size{640, 360}, 0, 0, 1_200_000},
		"a rate out of reach": {size{640, 360}, 1000, 0, 1_200_000},
		"four times the area": {size{1280, 720}, 30, 0, 3_394_112},
		"1080p":               {size{1920, 1080}, 30, 0, 6_235_382},
		"half the pictures":   {size{640, 360}, 15, 0, 848_528},
		"an icon":             {size{32, 18}, 30, 0, 100_000},
		"a ceiling":           {size{1920, 1080}, 30, 2_000_000, 2_000_000},
		"a ceiling above":     {size{640, 360}, 30, 2_000_000, 1_200_000},
	}
	for name, test := range tests {
		if got := test.size.videoBitRate(test.rate, test.ceiling); got != test.want {
			t.Errorf("%s: %d bit/s, want %d", name, got, test.want)
		}
	}
}

func TestThreads(t *testing.T) {
	tests := map[string]struct {
		size       size
		processors int
		want       int
	}{
		"small":                {size{320, 180}, 8, 1},
		"720p":                 {size{1280, 720}, 8, 3},
		"1080p":                {size{1920, 1080}, 8, 6},
		"4K":                   {size{3840, 2160}, 64, 8},
		"1080p on two of them": {size{1920, 1080}, 2, 2},
	}
	for name, test := range tests {
		if got := test.size.threads(test.processors); got != test.want {
			t.Errorf("%s: %d threads, want %d", name, got, test.want)
		}
	}
}

func TestNarrow(t *testing.T) {
	tests := map[string]struct{ from, want sound }{
		"stereo":         {sound{48000, 2}, sound{48000, 2}},
		"CD":             {sound{44100, 2}, sound{44100, 2}},
		"telephone":      {sound{8000, 1}, sound{8000, 1}},
		"5.1":            {sound{48000, 6}, sound{48000, 2}},
		"96 kHz":         {sound{96000, 2}, sound{48000, 2}},
		"88.2 kHz":       {sound{88200, 2}, sound{44100, 2}},
		"192 kHz":        {sound{192000, 8}, sound{48000, 2}},
		"nothing stated": {sound{}, sound{48000, 1}},
	}
	for name, test := range tests {
		if got := test.from.narrow(); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestQuality(t *testing.T) {
	stereo, mono := sound{48000, 2}, sound{48000, 1}
	tests := map[string]struct {
		sound   sound
		ceiling int
		want    float32
	}{
		"none":         {stereo, 0, 0.4},
		"above":        {stereo, 200_000, 0.4},
		"128 kbit/s":   {stereo, 128_000, 0.4},
		"100 kbit/s":   {stereo, 100_000, 0.2},
		"the lowest":   {stereo, 64_000, 0},
		"below that":   {stereo, 30_000, -0.1},
		"half of mono": {mono, 64_000, 0.4},
		"mono":         {mono, 40_000, 0.1},
	}
	for name, test := range tests {
		if got := test.sound.quality(test.ceiling); got != test.want {
			t.Errorf("%s: quality %v, want %v", name, got, test.want)
		}
	}
}
