package transcoder

import "testing"

func TestHead(t *testing.T) {
	tests := map[string]struct {
		parts []string
		want  int
	}{
		"FLV with both":     {[]string{"FLV\x01\x05\x00\x00\x00\x09"}, 2},
		"FLV with pictures": {[]string{"FLV\x01\x01"}, 1},
		"FLV with sound":    {[]string{"F", "L", "V\x01", "\x04\x00"}, 1},
		"FLV with nothing":  {[]string{"FLV\x01\x00"}, 0},
		"cut":               {[]string{"FLV\x01"}, 0},
		"another format":    {[]string{"RIFF\x05"}, 0},
		"nothing":           {nil, 0},
	}
	for name, test := range tests {
		var h head
		for _, part := range test.parts {
			h.add([]byte(part))
		}
		if got := h.kinds(); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
