package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tureen/impl/api"
	"tureen/impl/media"
)

// streamCommands are the calls about what is on the air.
type streamCommands struct {
	List  streamList  `cmd:"" help:"List what is on the air."`
	Abort streamAbort `cmd:"" help:"End a stream: its publisher gets 410, viewers the end of their bodies."`
	Watch streamWatch `cmd:"" help:"Show what is on the air again and again, until Ctrl-C."`
}

type streamList struct{ remote }

// Run prints the streams.
func (l *streamList) Run(out io.Writer) error {
	body, err := l.call(context.Background(), http.MethodGet, "list-streams", nil)
	if err != nil {
		return err
	}
	return l.printStreams(out, body)
}

type streamAbort struct {
	remote
	Session string `arg:"" help:"The session's id."`
}

// Run ends the stream.
func (a *streamAbort) Run(out io.Writer) error {
	body, err := a.call(context.Background(), http.MethodDelete, "abort-stream", url.Values{"sessionid": {a.Session}})
	switch {
	case err != nil:
		return err
	case a.JSON:
		return raw(out, body)
	}
	if _, err := fmt.Fprintln(out, a.Session, "has ended"); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

type streamWatch struct {
	remote
	Session  string        `arg:"" optional:"" help:"Show this session alone."`
	Interval time.Duration `default:"1s" help:"How long to wait between two looks."`
}

// Help is shown by --help.
func (*streamWatch) Help() string {
	return `On a terminal the table stays in its place; elsewhere the tables follow each other. With --json there is
one line for each look, which holds an array as tureen stream list --json prints it.`
}

// Validate refuses an interval that would be none.
func (w *streamWatch) Validate() error {
	if w.Interval <= 0 {
		return fmt.Errorf("--interval must be more than 0")
	}
	return nil
}

// Run looks until it is interrupted.
func (w *streamWatch) Run(out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(w.Interval)
	defer tick.Stop()
	for {
		body, err := w.call(ctx, http.MethodGet, "list-streams", nil)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = w.show(out, body)
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// clearScreen moves a terminal's cursor home and clears what is below it
// (ECMA-48 §8.3.21, §8.3.39).
const clearScreen = "\x1b[H\x1b[J"

// show prints one look at the streams, in one write so that it doesn't flicker.
func (w *streamWatch) show(out io.Writer, body []byte) error {
	body, err := w.chosen(body)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	terminal := isTerminal(out)
	if terminal && !w.JSON {
		b.WriteString(clearScreen)
	}
	if err := w.printStreams(&b, body); err != nil {
		return err
	}
	if !terminal && !w.JSON {
		b.WriteByte('\n')
	}
	if _, err := out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// chosen is the API's document with the chosen session alone.
func (w *streamWatch) chosen(body []byte) ([]byte, error) {
	if w.Session == "" {
		return body, nil
	}
	streams, err := document[[]api.Stream](body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(slices.DeleteFunc(streams, func(s api.Stream) bool { return s.SessionID != w.Session }))
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// raw prints a document as the API sent it, on a line of its own.
func raw(out io.Writer, body []byte) error {
	if _, err := fmt.Fprintf(out, "%s\n", bytes.TrimSpace(body)); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// printStreams prints the API's list of streams.
func (r *remote) printStreams(out io.Writer, body []byte) error {
	if r.JSON {
		return raw(out, body)
	}
	streams, err := document[[]api.Stream](body)
	if err != nil {
		return err
	}
	rows := [][]string{{"SESSION", "STATE", "FOR", "PUBLISHER", "TRACKS", "VIEWERS", "IN", "OUT", "RTP"}}
	for _, s := range streams {
		rows = append(rows, []string{
			s.SessionID, s.State, time.Since(s.Started).Round(time.Second).String(), s.Publisher, tracks(s.Tracks),
			strconv.FormatInt(s.Viewers, 10), size(s.BytesIn), size(s.BytesOut), strings.Join(s.RTP, ","),
		})
	}
	return table(out, rows)
}

// tracks are a stream's on one line: "vp8 640x360, opus>vorbis 48000x2".
func tracks(all []api.Track) string {
	texts := make([]string, len(all))
	for i, t := range all {
		codec := t.OutputCodec
		if t.InputCodec != codec {
			codec = t.InputCodec + ">" + codec
		}
		if t.Kind == media.Video {
			texts[i] = fmt.Sprintf("%s %dx%d", codec, t.Width, t.Height)
		} else {
			texts[i] = fmt.Sprintf("%s %gx%d", codec, t.SampleRate, t.Channels)
		}
	}
	return strings.Join(texts, ", ")
}

// size is a number of bytes as a person reads it.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	amount, unit := float64(n), 0
	for amount >= 1024 && unit < len(units)-1 {
		amount, unit = amount/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", amount, units[unit])
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
